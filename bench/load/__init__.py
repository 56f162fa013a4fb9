"""What loads a hub as a fleet would, over HTTP, and what that costs the hub."""
