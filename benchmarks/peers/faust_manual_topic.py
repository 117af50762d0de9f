"""Apart from the worker, whose import makes an app."""

#: Orders as JSON.
TOPIC = "peer-orders"
