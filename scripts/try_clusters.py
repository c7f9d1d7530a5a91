"""Try sweeps on real clusters of two nodes on this machine: python scripts/try_clusters.py [slurm] [ray]

Each cluster makes a sweep, loses a node in the middle and then the command itself, and resumes by the same command.
Its tables must have the bytes of those that joblib makes. Slurm's two nodes are network namespaces with addresses of
their own, which needs root; no packet leaves the machine. Ray's two nodes are two sets of processes.

Slurm needs the programs of Debian's slurmctld, slurmd, slurmdbd, slurm-client, munge, mariadb-server-core,
mariadb-client-core and iproute2.
The Python that runs this script needs the extras [slurm] and [ray]. The exit status is 1 where tables differ or a
command does not end as it should.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "clusters"  # of the sweep
TABLES = ("results.csv", "results.parquet", "verdicts.csv")
ADDRESSES = ("198.18.77.1", "198.18.77.2")  # of the range that RFC 2544 keeps for trials
LIMIT_S = 600.0  # of anything that is waited for
PROGRAMS = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sacctmgr", "sbatch", "ip")

SLURM_CONF = """
ClusterName=trial
SlurmctldHost={host}({addresses[0]})
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={work}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass={work}/munge.socket
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool.%n
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd.%n.pid
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd.%n.log
NodeName=node1 NodeAddr={addresses[0]} Port=17003 CPUs=1 RealMemory=8000
NodeName=node2 NodeAddr={addresses[1]} Port=17004 CPUs=1 RealMemory=8000
PartitionName=trial Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

SLURMDBD_CONF = """
AuthType=auth/munge
AuthInfo=socket={work}/munge.socket
DbdHost=localhost
SlurmUser=root
StorageType=accounting_storage/mysql
StorageUser=root
StorageHost=localhost
PidFile={work}/slurmdbd.pid
LogFile={work}/slurmdbd.log
"""


class Failed(Exception):
    """What did not go as it should, in a line."""


class Node:
    """A machine of the cluster: a network namespace, or just the processes that are started on it.

    Parameters
    ----------
    name
        Of the namespace; empty for none.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.started: list[subprocess.Popen[bytes]] = []

    def within(self) -> list[str]:
        """Return what goes before a command that runs on the node."""
        return ["nsenter", f"--net=/run/netns/{self.name}"] if self.name else []

    def start(self, words: Sequence[str], log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a program on the node; what it prints goes to `log`."""
        with log.open("ab") as file:
            process = subprocess.Popen([*self.within(), *words], stdout=file, stderr=file, env=env, cwd=ROOT)
        self.started.append(process)
        return process

    def kill(self) -> int:
        """Kill every process of the node at once, as a power cut does; return how many there were."""
        killed = 0
        while pids := self._pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            for process in self.started:
                process.poll()  # the dead are not counted again
            time.sleep(0.1)
        return killed

    def _pids(self) -> list[int]:
        if self.name:
            done = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
            return [int(pid) for pid in done.stdout.split() if not _is_zombie(int(pid))]
        return [pid for process in self.started for pid in _with_children(process.pid)]


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _with_children(pid: int) -> list[int]:
    if _is_zombie(pid):
        return []
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _with_children(int(child)))]


@contextlib.contextmanager
def two_nodes(namespaces: bool) -> Iterator[tuple[Node, Node]]:
    """Give two nodes that see each other alone; nothing of them is left behind."""
    names = [f"mbexp-{secrets.token_hex(3)}" for _ in ADDRESSES] if namespaces else ["", ""]
    nodes = Node(names[0]), Node(names[1])
    try:
        if namespaces:
            ends = [f"{name[-6:]}-eth" for name in names]
            for name in names:
                _run("ip", "netns", "add", name)
            _run("ip", "link", "add", ends[0], "netns", names[0], "type", "veth", "peer", ends[1], "netns", names[1])
            for name, end, address in zip(names, ends, ADDRESSES, strict=True):
                _run("ip", "-n", name, "address", "add", f"{address}/24", "dev", end)
                for link in ("lo", end):
                    _run("ip", "-n", name, "link", "set", link, "up")
        yield nodes
    finally:
        for node in nodes:
            node.kill()
            if node.name:
                subprocess.run(["ip", "netns", "delete", node.name], capture_output=True)


def _run(*words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def wait_for(what: str, ready: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Wait until something is so."""
    until = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > until:
            raise Failed(f"{what}: not within {limit_s:g} s")
        time.sleep(0.2)


class Slurm:
    """A Slurm of two nodes with one core each, with its accounts in a database, as submitit needs them."""

    launcher = ("hydra/launcher=slurm", "study.runs_per_job=10", "hydra.launcher.mem_gb=1")

    def __init__(self, work: Path, nodes: tuple[Node, Node]) -> None:
        self.work, self.nodes = work, nodes
        self.env = os.environ | {
            "SLURM_CONF": f"{work}/slurm.conf",
            "MYSQL_UNIX_PORT": f"{work}/database.socket",
            "MUNGE_SOCKET": f"{work}/munge.socket",
        }

    def start(self) -> str:
        """Start it; return what it is."""
        work, head = self.work, self.nodes[0]
        for name in ("state", "spool.node1", "spool.node2", "database"):
            (work / name).mkdir()
        (work / "slurm.conf").write_text(SLURM_CONF.format(work=work, addresses=ADDRESSES, host=socket.gethostname()))
        (work / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(work=work))
        (work / "munge.key").write_bytes(secrets.token_bytes(128))
        for name in ("munge.key", "slurmdbd.conf"):
            (work / name).chmod(0o600)
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        munge = [f"--{option}={work}/munge.{ending}" for option, ending in files.items()]
        self._start(head, "munged", "--foreground", *munge)
        data = [f"--datadir={work}/database", "--user=root"]
        _run("mariadb-install-db", "--no-defaults", *data, "--auth-root-authentication-method=socket")
        at = f"--socket={work}/database.socket"
        self._start(head, "mariadbd", "--no-defaults", *data, at, "--skip-networking")
        wait_for("the database", (work / "database.socket").exists, 60)
        self._start(head, "slurmdbd", "-D")
        wait_for("slurmdbd", lambda: self._says("sacctmgr", "-n", "list", "cluster") is not None, 60)
        if "trial" not in (self._says("sacctmgr", "-n", "list", "cluster") or ""):
            self._says("sacctmgr", "-i", "add", "cluster", "trial")
        self._start(head, "slurmctld", "-D")
        self._start(head, "slurmd", "-D", "-N", "node1")
        self.start_second()
        return f"{_run('slurmctld', '-V').strip()} with two nodes"

    def start_second(self) -> None:
        """Start the second node, or start it again."""
        self._start(self.nodes[1], "slurmd", "-D", "-N", "node2")
        at_work = {"idle", "mix", "alloc", "comp"}
        wait_for("two nodes", lambda: len([state for state in self._states() if state in at_work]) == 2, 60)

    def lost(self) -> bool:
        """Whether the cluster has noticed that the second node is gone."""
        return any(state.startswith("down") for state in self._states())

    def end_jobs(self) -> None:
        """End what is left of a command."""
        self._says("scancel", "--user=root")

    def _states(self) -> list[str]:
        return (self._says("sinfo", "-h", "-N", "-o", "%t") or "").replace("*", "").split()

    def _start(self, node: Node, *words: str) -> None:
        node.start(words, self.work / f"{words[0]}.out", self.env)

    def _says(self, *words: str) -> str | None:
        done = subprocess.run([*self.nodes[0].within(), *words], capture_output=True, text=True, env=self.env)
        return None if done.returncode else done.stdout


class Ray:
    """A Ray of two nodes with one core each: two sets of processes that share this machine's address."""

    launcher = ("hydra/launcher=ray_cluster",)
    port = 17100
    # How long Ray waits for its own parts; the defaults end a start on a machine that has other work.
    patience = (
        "RAY_raylet_start_wait_time_s=600",
        "RAY_agent_register_timeout_ms=600000",
        "RAY_worker_register_timeout_seconds=600",
        "RAY_gcs_rpc_server_connect_timeout_s=120",
        "RAY_gcs_server_request_timeout_seconds=300",
        "RAY_health_check_timeout_ms=60000",
    )

    def __init__(self, work: Path, nodes: tuple[Node, Node]) -> None:
        self.work, self.nodes = work, nodes
        self.env = os.environ | {
            "RAY_ADDRESS": f"127.0.0.1:{self.port}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "HOME": str(work),  # recent Ray writes a token there
            **dict(each.split("=") for each in self.patience),
        }

    def start(self) -> str:
        """Start it; return what it is."""
        # Sockets have names of at most 107 characters, so that the folder of the session is a short one.
        self._start(0, "--head", f"--port={self.port}", "--include-dashboard=false", f"--temp-dir={self.work}/ray")
        wait_for("the first node", lambda: self._alive() == 1)
        self.start_second()
        return f"Ray {importlib.metadata.version('ray')} with two nodes"

    def start_second(self) -> None:
        """Start the second node, or start it again."""
        self._start(1, f"--address={self.env['RAY_ADDRESS']}")
        wait_for("two nodes", lambda: self._alive() == 2)

    def lost(self) -> bool:
        """Whether the cluster has noticed that the second node is gone."""
        return self._alive() == 1

    def end_jobs(self) -> None:
        """Nothing is left of a command: Ray ends what its driver started."""

    def _start(self, place: int, *words: str) -> None:
        program = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1"]
        first = self.port + 1000 * (place + 1)
        # A node that is to find ports by itself waits for each, and gives up where a busy machine is slow to give one.
        names = ("dashboard-agent-grpc", "dashboard-agent-listen", "metrics-export", "runtime-env-agent")
        names = (*names, "node-manager", "object-manager")
        ports = [f"--{name}-port={first + number}" for number, name in enumerate(names)]
        ports += [f"--min-worker-port={first + 100}", f"--max-worker-port={first + 900}"]
        room = ["--object-store-memory=100000000", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        self.nodes[place].start([*program, *room, *ports, *words], self.work / f"ray{place + 1}.out", self.env)

    def _alive(self) -> int:
        code = "import ray; ray.init(log_to_driver=False); print('alive', sum(node['Alive'] for node in ray.nodes()))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=self.env)
        found = re.search(r"^alive (\d+)$", done.stdout, re.MULTILINE)  # Ray says other things beside it
        return int(found.group(1)) if found else 0


def sweep(folder: Path, points: int) -> list[str]:
    """Return the command of a sweep of so many points."""
    return [
        *(sys.executable, "-m", "mbexp", "--multirun", f"study.name={NAME}", f"output.dir={folder}"),
        *("num_requests=20000", "k_bins=1,2,4,8", "num_gpus=6,7,8,9,10", f"seed=range({points // 20})"),
    ]


def stored(folder: Path) -> int:
    """Return how many runs are stored."""
    return len([*(folder / NAME).glob("*/summary.json")])


def try_cluster(cluster: Slurm | Ray, work: Path, points: int, expected: Path) -> None:
    """Make the sweep on a cluster that loses a node and then its user, and compare its tables with those expected."""
    folder, began = work / "outputs", time.monotonic()
    name = type(cluster).__name__.lower()

    def say(what: str) -> None:
        print(f"{name} {time.monotonic() - began:4.0f} s  {what}", flush=True)

    def launch() -> tuple[subprocess.Popen[bytes], Path]:
        log = work / f"command{len(cluster.nodes[0].started)}.out"
        return cluster.nodes[0].start([*sweep(folder, points), *cluster.launcher], log, cluster.env), log

    def more_than(share: float, command: subprocess.Popen[bytes]) -> Callable[[], bool]:
        return lambda: stored(folder) >= share * points or command.poll() is not None

    say(cluster.start())
    command, log = launch()
    wait_for("the first runs", more_than(0.25, command))
    say(
        f"{stored(folder)} of {points} runs are stored; the second node is killed ({cluster.nodes[1].kill()} processes)"
    )
    wait_for("the loss of the node", cluster.lost)
    say("the cluster knows that it is gone")
    wait_for("half of the runs", more_than(0.5, command))
    how = "is killed" if command.poll() is None else f"ended with status {command.returncode}"
    say(f"{stored(folder)} of {points} runs are stored; the command {how}: {_last_line(log)}")
    for pid in _with_children(command.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    cluster.end_jobs()
    cluster.start_second()
    say("the second node is back; the same command again")
    for _ in range(2):
        before = stored(folder)
        command, log = launch()
        wait_for("the end of the sweep", more_than(2.0, command))
        say(f"status {command.returncode}: {_last_line(log).replace(f'{work}/', '')}")
        if command.returncode:
            raise Failed(f"the command failed with {before} runs there: {log.read_text()[-2000:]}")
    for table in TABLES:
        here, there = folder / NAME / table, expected / NAME / table
        if here.read_bytes() != there.read_bytes():
            raise Failed(f"{table}: not the bytes that joblib wrote")
        say(f"{table}: the same {len(there.read_bytes()):,} bytes as by joblib")


def _last_line(log: Path) -> str:
    return (log.read_text(errors="replace").strip().splitlines() or ["(nothing printed)"])[-1]


def main() -> int:
    """Try the clusters that are asked for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clusters", nargs="*", metavar="CLUSTER", help="slurm, ray; by default both")
    parser.add_argument("--points", type=int, default=200, help="of the sweep; a multiple of 20 (200)")
    parser.add_argument("--keep", action="store_true", help="leave the folder with all logs")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="mbexp-clusters-"))
    work.chmod(0o755)  # munged asks that all may reach its socket
    kinds = {"slurm": Slurm, "ray": Ray}
    status = 0
    try:
        began = time.monotonic()
        done = subprocess.run([*sweep(work, options.points)], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"joblib: {done.stdout}{done.stderr}")
        last = done.stdout.splitlines()[-1].replace(f"{work}/", "")
        print(f"joblib {time.monotonic() - began:3.0f} s  {last}", flush=True)
        for name in options.clusters or kinds:
            missing = [program for program in PROGRAMS if shutil.which(program) is None] if name == "slurm" else []
            if missing or (name == "slurm" and os.geteuid() != 0):
                print(f"{name}  skipped: {', '.join(missing) or 'root'} is missing")
                continue
            folder = work / name
            folder.mkdir()
            with two_nodes(namespaces=name == "slurm") as nodes:
                try_cluster(kinds[name](folder, nodes), folder, options.points, work)
    except Failed as error:
        print(f"failed: {error}")
        status = 1
    finally:
        if options.keep:
            print(f"logs: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
