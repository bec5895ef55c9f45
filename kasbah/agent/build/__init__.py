"""From a source bundle to something that can be started: `Builder` is the door, one file for each runtime.

blob --unpack--> app/ --python.py or node.py--> env/ --launch.py--> Built (argv, environment, readable folders)
"""

from kasbah.agent.build.builder import Builder, open_builder
from kasbah.agent.build.launch import Built

__all__ = ["Builder", "Built", "open_builder"]
