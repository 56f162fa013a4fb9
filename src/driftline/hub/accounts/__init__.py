"""Who people are, what they may do, and what they did; logins are asked of nobody but by a hub with `--auth`."""
