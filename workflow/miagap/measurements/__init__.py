"""What a model is asked beyond the logits of its queries: one module for each signal.

Each module has a function ``measure(subject, parameters)`` that returns an array (n, ...), one
entry for each sample. ``miagap.attacks.base.MEASURED`` lists the signals; which are measured
follows from the configured attacks. No measurement is told which samples are members.
"""
