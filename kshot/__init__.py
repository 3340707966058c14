"""kshot: few-shot learning as a service. What every process of it shares."""

__version__ = "0.1.0"
