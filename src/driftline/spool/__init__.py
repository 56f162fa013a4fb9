"""The device's durable outbox: what was counted waits here until the hub has committed it. Knows no network."""
