"""A fake of a system that is not ours: collects payments from Kafka and analyses them."""
