"""Our attacks beside public implementations, on the same logits (see ``fidelity.py``)."""
