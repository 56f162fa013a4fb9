"""A rendered shop camera, a tiny detector and the story, told through the SDK and the command line."""
