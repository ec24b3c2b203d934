# environment: platform
"""What an idle stack takes: cores, and memory.

    envs/platform/.venv/bin/python -m bench.idle [--seconds 60]

Needs a running stack (`make up`) that nobody asks anything. Measures after the minute in which its daemon still looks
often (deploy/stack/processes/calm.py). Memory is the sum of what each process has of its own, and its part of what it
shares (PSS); what the kernel keeps of files is nobody's.
"""

import argparse
import time

from bench._figures import tell, where
from bench._processors import Processors, by_process
from deploy.stack.dagit.client import Dagit
from deploy.stack.processes.calm import IDLE_AFTER_SECONDS
from deploy.stack.processes.supervisor import Supervisor
from shared_ops.settings import Settings


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=60)
    seconds, settings = arguments.parse_args().seconds, Settings()
    processors = Processors(Supervisor(settings))
    Dagit(settings.url("dagit")).settle(600)
    time.sleep(1.5 * IDLE_AFTER_SECONDS)
    print(where())
    with processors.measured() as spent:
        time.sleep(seconds)
    memory = processors.memory()
    print(f"thousandths of a core: {by_process(spent, 1000 / seconds)}")
    print(f"MB: {by_process(memory, 1000)}")
    tell("idle stack: cores busy", sum(spent.values()) / seconds)
    tell("idle stack: memory", sum(memory.values()))


if __name__ == "__main__":
    main()
