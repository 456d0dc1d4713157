"""Every step outlasts the grace after SIGTERM."""

from tina_harness import stopping

stopping.GRACE_S = 0.0
