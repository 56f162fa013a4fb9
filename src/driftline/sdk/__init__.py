"""The notebook's side: `Client` and what it returns. It asks the hub and draws; it computes no score."""
