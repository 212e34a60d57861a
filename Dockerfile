# The page as a container:
#   docker build -t refiner . && docker run --rm -p 127.0.0.1:8430:8430 -v refiner:/data refiner
# PyTorch's plain build for Linux carries CUDA: the same image uses NVIDIA GPUs where `docker run --gpus all` gives it any.
# For CPUs alone, an image smaller by several GB: add --build-arg TORCH_INDEX=URL, the index of CPU builds that PyTorch's
# "Get started" page names.
# The address with its token is in the log; REFINER_WEB_TOKEN sets a token of your own.
FROM python:3.12-slim

ARG TORCH_INDEX=
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 REFINER_CACHE=/data/cache

# PyTorch first, so that nothing below brings another build.
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY . /src
RUN pip install "/src[web,formats]" && rm -rf /src

# Nobody in particular, who owns nothing but the volume for weights, photos and results.
RUN useradd --uid 10001 --create-home refiner && mkdir -p /data/results && chown -R refiner /data
USER refiner
VOLUME /data
EXPOSE 8430
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8430/healthz', timeout=4)"]
ENTRYPOINT ["refiner", "web", "--host", "0.0.0.0", "--port", "8430", "--name", "localhost", "--no-browser", "--output", "/data/results"]
