"""Not collected with the others: ``test_cleanup.py`` starts it, to end it on its way."""

import time

from slurm_cluster import Cluster


def test_waits_to_be_ended(cluster: Cluster):
    time.sleep(120)
