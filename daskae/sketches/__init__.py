"""Small states that stand for many values, merge exactly and say how far they can be off."""
