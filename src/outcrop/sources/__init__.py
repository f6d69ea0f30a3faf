"""Where pixels come from: scenes, labels on them, collections, synthetic worlds."""
