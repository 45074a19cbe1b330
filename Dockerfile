# lorajax with CUDA, for `docker run --gpus=all IMAGE run --flagfile=launch/gpu_80gb.flags ...`.
#
#   docker build -t IMAGE .
#
# CUDA comes with the wheels of jax[cuda12]; the host gives the driver (525 or later) through the
# NVIDIA container toolkit. Never built yet: the build machines have no Docker.
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
WORKDIR /lorajax
# Dependencies first: they change more rarely than the code.
COPY setup.py README.md ./
COPY lorajax/__init__.py lorajax/__init__.py
RUN pip install --no-cache-dir --editable '.[cuda]'
COPY . .
# One process owns the GPU and asks for what it needs.
ENV XLA_PYTHON_CLIENT_MEM_FRACTION=0.92 PYTHONUNBUFFERED=1
# As PID 1 a process must reap its children; lorajax starts sandboxed programs.
RUN pip install --no-cache-dir dumb-init
ENTRYPOINT ["dumb-init", "--", "lorajax"]
