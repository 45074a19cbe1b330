"""Launch scripts, with stand-ins for what they call: recorders of arguments on the PATH.

The scripts run in a copy of launch/, beside a .venv whose python is a stand-in, too. No cloud, no
cluster and no container has seen them.
"""

import argparse
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path for path in (ROOT / 'launch').iterdir() if path.suffix != '.flags')

# Writes down how it was called; says and does what the test has put into a file for it.
STAND_IN = """#!/usr/bin/env bash
name=$(basename "$0")
echo "${CUDA_VISIBLE_DEVICES:+GPU$CUDA_VISIBLE_DEVICES }$name $*" >> "$PLACE/calls"
if [ -f "$PLACE/$name" ]; then
  source "$PLACE/$name"
fi
"""


class Place:
    """A directory where a script finds launch/, .venv and programs that only record."""

    def __init__(self, root):
        self.root = root
        shutil.copytree(ROOT / 'launch', root / 'launch')
        for name in ('bin/gcloud', 'bin/sbatch', 'bin/scontrol', 'bin/kubectl', 'bin/git',
                     '.venv/bin/python'):  # fmt: skip
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(STAND_IN)
            path.chmod(0o755)

    def does(self, name, script):
        """Gives a stand-in something to do."""
        (self.root / name).write_text(script)

    def start(self, script, *arguments, **environment):
        """Starts a script."""
        own = {'PATH': f'{self.root}/bin:{os.environ["PATH"]}', 'PLACE': str(self.root),
               'HOME': str(self.root), 'PAUSE': '0'}  # fmt: skip
        return subprocess.Popen(
            ['bash', f'launch/{script}', *arguments], cwd=self.root, env=own | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, script, *arguments, status=0, **environment):
        """Runs a script to its end; returns what it printed."""
        process = self.start(script, *arguments, **environment)
        out, err = process.communicate(timeout=30)
        assert process.returncode == status, err
        return out + err

    @property
    def calls(self):
        """What was called, line by line, without the installation."""
        path = self.root / 'calls'
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if ' pip ' not in line]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_scripts_say_how_they_are_used_and_can_be_read(path):
    text = path.read_text()
    if path.suffix == '.yaml':
        return
    assert text.startswith('#!/usr/bin/env bash\n') and 'set -euo pipefail' in text
    assert 'DRY_RUN' in text
    assert subprocess.run(['bash', '-n', path], check=False).returncode == 0
    if path.name != 'environment.sh':
        assert f'bash launch/{path.name} NAME' in text


@pytest.mark.skipif(shutil.which('shellcheck') is None, reason='no shellcheck on this machine')
def test_shellcheck_finds_nothing():
    scripts = [path for path in SCRIPTS if path.suffix != '.yaml']
    done = subprocess.run(['shellcheck', *scripts], capture_output=True, text=True, check=False)
    assert not done.stdout


@pytest.mark.parametrize('script', ['gpu.sh', 'slurm.sbatch', 'tpu_vm.sh', 'jobset.sh'])
def test_a_dry_run_prints_and_calls_nothing(place, script):
    words = ['create', 'install', 'run', 'fetch', 'delete'] if script == 'tpu_vm.sh' else []
    printed = place.run(
        script, 'toy', *words, '--num_shards=2', '--seed=7', DRY_RUN='1', IMAGE='i', CLAIM='c'
    )
    assert '--flagfile=launch/toy.flags' in printed and '--seed=7' in printed
    assert place.calls == []


def test_one_gpu_runs_all_stages(place):
    place.run('gpu.sh', 'gpu_24gb', '--seed=7')
    assert place.calls == ['python -m lorajax.launch run --flagfile=launch/gpu_24gb.flags --seed=7']


def test_gpus_divide_what_can_be_divided(place):
    place.run('gpu.sh', 'gpu_80gb', '--num_shards=2', '--workdir=w')
    run = 'python -m lorajax.launch run --flagfile=launch/gpu_80gb.flags --workdir=w --stages='
    shards = [f' --num_shards=2 --shard_index={index}' for index in range(2)]
    calls = place.calls
    divided = [calls[1:3], calls[4:6]]
    assert [calls[0], calls[3], calls[6]] == [
        run + s for s in ('prepare', 'map', 'evaluate,report')
    ]
    for lines, stage in zip(divided, ('train', 'evaluate'), strict=True):
        assert sorted(lines) == [f'GPU{i} {run}{stage}{shards[i]}' for i in range(2)]


def test_a_gpu_that_fails_stops_the_run(place):
    place.does('python', 'case "$*" in *shard_index=1*) exit 2 ;; esac')
    place.run('gpu.sh', 'gpu_80gb', '--num_shards=3', status=2)
    assert len(place.calls) == 1 + 3


def test_slurm_submits_jobs_that_wait_for_each_other(place):
    place.does('sbatch', 'wc -l < "$PLACE/calls"')
    place.run('slurm.sbatch', 'gpu_80gb', '--num_shards=8', '--workdir=w')
    head = f'sbatch --parsable --chdir={place.root} --job-name=lorajax-'
    tail = 'launch/slurm.sbatch --flagfile=launch/gpu_80gb.flags --workdir=w --stages='
    assert place.calls == [
        f'{head}prepare {tail}prepare',
        f'{head}train --dependency=afterok:1 --array=0-7 {tail}train --num_shards=8',
        f'{head}map --dependency=afterok:2 {tail}map',
        f'{head}evaluate --dependency=afterok:3 --array=0-7 {tail}evaluate --num_shards=8',
        f'{head}evaluate,report --dependency=afterok:4 {tail}evaluate,report',
    ]


def test_without_shards_slurm_gets_one_job(place):
    place.run('slurm.sbatch', 'gpu_80gb')
    (call,) = place.calls
    assert call.endswith('--stages=prepare,train,map,evaluate,report') and '--array' not in call


JOB = {'SLURM_JOB_ID': '12', 'SLURM_ARRAY_JOB_ID': '7', 'SLURM_ARRAY_TASK_ID': '3'}


@pytest.mark.parametrize(
    ('status', 'is_requeued'), [(0, False), (2, False), (75, True), (143, True)]
)
def test_a_job_is_queued_again_after_a_signal_and_only_then(place, status, is_requeued):
    place.does('python', f'exit {status}')
    place.run('slurm.sbatch', '--flagfile=launch/toy.flags', '--num_shards=8', status=status, **JOB)
    run = 'python -m lorajax.launch run --flagfile=launch/toy.flags --num_shards=8 --shard_index=3'
    assert place.calls == [run, 'scontrol requeue 7_3'][: 1 + is_requeued]


def test_a_job_hands_the_signal_on_and_waits_for_the_end(place):
    place.does('python', 'trap "sleep 0.2; exit 143" TERM; while true; do sleep 0.05; done')
    job = place.start('slurm.sbatch', '--flagfile=launch/toy.flags', SLURM_JOB_ID='12')
    deadline = time.monotonic() + 20
    while not place.calls:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)  # the stand-in sets its trap
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=20)
    assert job.returncode == 143 and place.calls[1:] == ['scontrol requeue 12']


def test_a_tpu_vm_is_made_used_and_deleted(place):
    place.run(
        'tpu_vm.sh', 'tpu_v6e8', 'create', 'install', 'run', 'fetch', 'delete', '--seed=7',
        ZONE='z', PROJECT='p', SPOT='1', DISK='d',
    )  # fmt: skip
    vm = 'gcloud compute tpus tpu-vm'
    assert place.calls[0] == 'gcloud compute disks describe d --zone=z --project=p'
    assert place.calls[1] == (
        f'{vm} create lorajax --zone=z --project=p --accelerator-type=v6e-8 '
        '--version=v2-alpha-tpuv6e --spot '
        '--data-disk=source=projects/p/zones/z/disks/d,mode=read-write'
    )
    text = '\n'.join(place.calls)
    steps = [
        'git archive', f'{vm} scp', f'{vm} ssh lorajax --zone=z --project=p --worker=all',
        'mkfs.ext4', 'environment.sh tpu', f'{vm} ssh lorajax --zone=z --project=p --worker=0',
        'run --flagfile=launch/tpu_v6e8.flags --workdir=/mnt/lorajax/runs/tpu_v6e8 --seed=7',
        f'{vm} scp --recurse lorajax:/mnt/lorajax/runs/tpu_v6e8 runs', f'{vm} delete lorajax',
    ]  # fmt: skip
    places = [text.find(step) for step in steps]
    assert -1 not in places and places == sorted(places), text
    assert '--stages' not in text


# Where a run's first connection breaks and the VM is gone.
PREEMPTED = """
runs=$(grep -c "worker=0 --command=cd lorajax" "$PLACE/calls")
case "$*" in
  *"describe lorajax"*) echo PREEMPTED ;;
  *"--worker=0 --command=cd lorajax"*) if [ "$runs" -lt 2 ]; then exit 255; fi ;;
esac
"""


def test_a_preempted_tpu_vm_is_made_again_and_goes_on(place):
    place.does('gcloud', PREEMPTED)
    place.run('tpu_vm.sh', 'tpu_v5e8', 'run', ZONE='z')
    verbs = [line.split()[4] for line in place.calls if line.startswith('gcloud compute tpus')]
    assert verbs == ['ssh', 'describe', 'delete', 'create', 'scp', 'ssh', 'ssh']


@pytest.mark.parametrize(('status', 'tries'), [(2, 1), (1, 4)])
def test_what_does_not_go_away_ends_the_run(place, status, tries):
    place.does('gcloud', f'case "$*" in *ssh*) exit {status} ;; *describe*) echo READY ;; esac')
    place.run('tpu_vm.sh', 'tpu_v5e8', 'run', status=status)
    assert sum(' ssh ' in line for line in place.calls) == tries


def test_workers_of_a_slice_divide_what_can_be_divided(place):
    assert 'NFS: is missing' in place.run('tpu_vm.sh', 'tpu_v5e32', 'run', status=2)
    place.run('tpu_vm.sh', 'tpu_v5e32', 'run', NFS='10.0.0.2:/share')
    workers = [line.split('--worker=')[1].split()[0] for line in place.calls if ' ssh ' in line]
    assert workers == ['0', 'all', '0', 'all', '0']
    text = '\n'.join(place.calls)
    assert text.count('--num_shards=8 --shard_index=$shard') == 2
    for stages in ('prepare', 'train', 'map', 'evaluate', 'evaluate,report'):
        assert f'--stages={stages}' in text


def test_an_unknown_word_is_refused(place):
    assert 'crate: expected create' in place.run('tpu_vm.sh', 'tpu_v5e8', 'crate', status=2)


def test_kubernetes_gets_a_jobset(place):
    place.does('kubectl', 'cat > "$PLACE/applied"')
    place.run(
        'jobset.sh', 'gpu_80gb', '--num_shards=8', '--workdir=/runs/a b', IMAGE='r/i:1', CLAIM='c'
    )
    assert place.calls == ['kubectl apply -f -']
    jobset = yaml.safe_load((place.root / 'applied').read_text())
    assert (jobset['kind'], jobset['metadata']['name']) == ('JobSet', 'lorajax')
    jobs = jobset['spec']['replicatedJobs']
    assert [job['name'] for job in jobs] == ['prepare', 'train', 'map', 'evaluate', 'report']
    for before, job in itertools.pairwise(jobs):
        assert job['dependsOn'] == [{'name': before['name'], 'status': 'Complete'}]
    for job in jobs:
        work = job['template']['spec']
        pod = work['template']['spec']
        (container,) = pod['containers']
        divided = ['--num_shards=8', '--shard_index=$(JOB_COMPLETION_INDEX)']
        is_divided = job['name'] in ('train', 'evaluate')
        assert work['completions'] == work['parallelism'] == (8 if is_divided else 1)
        assert container['args'][:3] == [
            'run', '--flagfile=launch/gpu_80gb.flags', '--workdir=/runs/a b'
        ]  # fmt: skip
        assert container['args'][4:] == (divided if is_divided else [])
        assert container['image'] == 'r/i:1'
        assert pod['volumes'][0]['persistentVolumeClaim'] == {'claimName': 'c'}
        rules = [rule for rule in work['podFailurePolicy']['rules'] if 'onExitCodes' in rule]
        codes = {rule['action']: rule['onExitCodes']['values'] for rule in rules}
        assert codes == {'FailJob': [2], 'Ignore': [75, 143]}
        assert pod['restartPolicy'] == 'Never'  # the policy asks for it
    pods = [job['template']['spec']['template']['spec'] for job in jobs]
    assert [pod['containers'][0]['args'][3] for pod in pods] == [
        f'--stages={name}' for name in ('prepare', 'train', 'map', 'evaluate', 'evaluate,report')
    ]
    assert 'no quotes' in place.run('jobset.sh', 'toy', '--a="', status=2, IMAGE='i')


RATES = {
    'device': 'NVIDIA H100 80GB HBM3', 'platform': 'gpu', 'dtype': 'bfloat16',
    'attention': 'cudnn', 'parameters': 3e9, 'matrix': [7e14], 'step': [3e4, 3.1e4, 3.3e4],
    'step compiling': 60.0, 'one': [2e4], 'many': [3e4], 'decoding base': [1e4],
    'decoding mixed': [9e3], 'reading mixed': [5e4], 'loading': [2.0], 'bytes': None,
}  # fmt: skip


@pytest.mark.parametrize('size', ['3B', 'small'])
def test_the_accelerator_benchmark_says_what_is_measured_and_what_is_not(capsys, size):
    from benchmarks import gpu

    given = argparse.Namespace(size=size, remat='dots', rounds=2, repetitions=5)
    gpu.report(given, RATES, {}, 'as torch sees no such device')
    lines = capsys.readouterr().out.splitlines()
    text = '\n'.join(lines)
    assert 'Peer: unmeasured, as torch sees no such device.' in text
    (step,) = (line for line in lines if line.startswith('| LoRA step'))
    assert '0.376 [0.364, 0.4]' in step  # 31,000 x 4 x 3e9 of 989e12
    assert '1.50 times ours one by one' in text and '0.90 of ours with the base alone' in text
    is_small = size == 'small'
    assert ('SMALL SIZE' in text) == ('not predicted' in text) == is_small
    assert ('hours, predicted from the rates above' in text) != is_small
    verdicts = ['share 0.4: missed', 'of one by one 1.5: met', 'of the base alone 0.85: met']
    assert [verdict in text for verdict in verdicts] == [not is_small] * 3


def test_hours_of_round_4_grow_with_its_tokens():
    from benchmarks import round4
    from benchmarks.gpu_sides import SIZES

    size, work = SIZES['3B'], round4.Work(trained=3e4 * 3600, answers=0, read=0, said=0)
    loads = 2 * 6.2 / 2.0 / 3600
    assert round4.hours(size, RATES, work) == pytest.approx(1 + loads)
    # A step of 256 rows: 128 of them and 128 x 256 read tokens take 256 x 128 / 9000 s.
    step = (256 * 128 / 9e3 - 256 * 128 / 5e4) / 128
    work = round4.Work(trained=0, answers=0, read=0, said=256 * 1000)
    assert round4.hours(size, RATES, work) == pytest.approx(2000 * step / 3600 + loads)
