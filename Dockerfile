# Two stages: the C compiler, pip and its caches stay in the first, which compiles the data plane (docs/compilation.md).
# What runs is a virtual environment that nobody in the container may write to; with a read-only root file system
# (docker run --read-only) only the volume /data is written.
FROM python:3.13-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
WORKDIR /src
COPY hatch_build.py pyproject.toml README.md LICENSE ./
COPY gateway gateway
RUN HATCH_BUILD_HOOKS_ENABLE=1 pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python -m venv /opt/keygate \
    && /opt/keygate/bin/pip install --no-cache-dir "$(ls /wheels/keygate-*.whl)[postgres]"

FROM python:3.13-slim
COPY --from=build /opt/keygate /opt/keygate
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin keygate \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
ENV PATH=/opt/keygate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEWAY__STORE__URL=sqlite:////data/gateway.db \
    GATEWAY__AUDIT__DIRECTORY=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/healthz', timeout=2)"]
ENTRYPOINT ["gateway"]
CMD ["run"]
