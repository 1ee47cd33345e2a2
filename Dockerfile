# The labs in a container, with the tested versions. On Linux the package index has torch's CUDA
# build: it uses a GPU where the host lends one, and the CPU elsewhere.
#
#     docker build -t peft-lab-kit .
#     docker run --rm -p 127.0.0.1:8888:8888 peft-lab-kit             # add --gpus all for a GPU
#     docker run --rm peft-lab-kit python -m lab_utils run            # another command
#
# Smaller, for a CPU alone: --build-arg PIP_EXTRA_INDEX_URL=... with PyTorch's index of CPU builds.
FROM python:3.11-slim-bookworm
ARG PIP_EXTRA_INDEX_URL=

# bubblewrap and libseccomp2 are for the grader, chromium for the tests of demos, git for releases
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap chromium git libgomp1 libseccomp2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home student

WORKDIR /kit
COPY requirements.txt requirements.lock ./
RUN python -m pip install --no-cache-dir -r requirements.txt -c requirements.lock

COPY --chown=student:student . .
RUN chown student:student /kit
USER student
EXPOSE 8888
CMD ["python", "-m", "lab_utils", "lab", "--no-browser", "--ip=0.0.0.0"]
