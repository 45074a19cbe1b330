"""The public names, reached as a user reaches them."""

import pathlib
import subprocess
import sys


def run(script):
    done = subprocess.run(
        [sys.executable, '-c', script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names_are_reached_from_the_package_alone():
    run(
        'import lorajax\n'
        'lorajax.models.load_model, lorajax.lora.load_peft, lorajax.lora.save_peft\n'
        'lorajax.mapping.fit, lorajax.mapping.load, lorajax.mapping.METHODS["delta_ridge"]\n'
        'counts = {"t": {"n": 100, "base": 10, "mean": 20, "delta_ridge": 40, "oracle": 60}}\n'
        'row = lorajax.evaluation.stats.experiment1(counts)["rows"][0]\n'
        'assert abs(row["gap_recovered"] - 0.6) < 1e-9\n'
    )


def test_every_package_is_reached_and_listed():
    script = (
        'import pathlib, lorajax\n'
        'root = pathlib.Path(lorajax.__file__).parent\n'
        'names = [path.parent.name for path in root.glob("*/__init__.py")]\n'
        'assert len(names) > 10 and set(names) <= set(dir(lorajax))\n'
        'for name in names: assert getattr(lorajax, name).__name__ == f"lorajax.{name}"\n'
    )
    run(script)


def test_importing_the_package_is_cheap():
    loaded = run('import sys, lorajax; print(*sys.modules)').split()
    assert not {'jax', 'flax', 'transformers', 'torch', 'numpy'} & set(loaded)


def test_running_needs_no_torch():
    script = 'import sys; import lorajax.launch; print(*sys.modules)'
    assert not {'torch', 'peft', 'tensorflow'} & set(run(script).split())


def test_a_model_is_loaded_by_a_name_of_the_package():
    run('import lorajax\nassert "load_model" in dir(lorajax) and callable(lorajax.load_model)\n')


def test_a_built_package_has_the_flagfiles_inside(tmp_path):
    root = pathlib.Path(__file__).resolve().parent.parent
    subprocess.run(
        [sys.executable, 'setup.py', '-q', 'egg_info', f'--egg-base={tmp_path}',
         'build_py', f'--build-lib={tmp_path / "lib"}'],
        cwd=root, check=True, capture_output=True,
    )  # fmt: skip
    built = tmp_path / 'lib' / 'lorajax'
    names = {path.name for path in (root / 'launch').glob('*.flags')}
    assert {path.name for path in (built / 'flagfiles').iterdir()} == names
    assert (built / 'toy' / 'checkpoints' / 'target' / 'model.safetensors').is_file()
    script = (
        'from lorajax.commands import flagfiles, parse\n'
        'assert "lib" in str(flagfiles.find("toy")), flagfiles.find("toy")\n'
        'print(parse.parse(["--flagfile=gpu_80gb"]).experiment.lora_rank)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', script], cwd=built.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == '16\n'
