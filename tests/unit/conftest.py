import pytest


@pytest.fixture(autouse=True)
def keep_denormals():
    """Training flushes denormals for the whole process; tests that come after do not expect it."""
    yield
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
