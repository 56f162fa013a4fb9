"""How people are told: what is sent when (`schedule`, `outbox`), as what (`message`), and through which way."""
