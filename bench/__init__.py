"""What Playhead costs, as ratios to reference systems measured in the same run. See `bench/README.md`."""
