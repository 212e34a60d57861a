"""A conformance kit for inpainters: says in plain words what works and what does not.

    from refiner.testing import check

    def test_my_inpainter():
        assert check(MyInpainter()).passed

On the command line: `refiner check NAME` or `refiner check module:attribute`.
"""

from refiner.testing.checks import Finding, Report, check
from refiner.testing.scan import Cut, scan

__all__ = ["Cut", "Finding", "Report", "check", "scan"]
