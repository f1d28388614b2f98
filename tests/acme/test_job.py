"""How long a job may take."""

from gateman.acme.job import Job, order_time, time_limit
from gateman.acme.options import AcmeOptions, DnsCommand

PLAIN = AcmeOptions(domains=("a.test",))
BY_DNS = AcmeOptions(
    domains=("b.test", "*.b.test"), dns=DnsCommand(command=("record",), wait=10.0, timeout=60.0)
)


def test_an_order_has_time_for_its_commands() -> None:
    """For setting and clearing the record of each name."""
    assert order_time(BY_DNS) - order_time(PLAIN) == 10 + 4 * 60


def test_a_job_has_time_for_each_order() -> None:
    job = Job(certificates=(PLAIN, BY_DNS, PLAIN))

    assert time_limit(job) == 2 * order_time(PLAIN) + order_time(BY_DNS)
