"""The demo: the main job, played on a real PC/SC daemon with a virtual card. It only runs what a person could type."""
