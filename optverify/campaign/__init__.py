"""Many instances: in several processes or on a cluster, each result kept in a file as it comes."""

from optverify.campaign.instances import Instance, read_instances
from optverify.campaign.run import Campaign, Progress, Ran, run
from optverify.campaign.store import Row, Store
from optverify.campaign.work import Distance

__all__ = ["Campaign", "Distance", "Instance", "Progress", "Ran", "Row", "Store", "read_instances", "run"]
