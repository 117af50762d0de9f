# syntax=docker/dockerfile:1
# Our own processes, from the production lock: no Kafka, Postgres or Valkey inside, no compiler, no root.

FROM python:3.13.9-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/gapless
COPY requirements/production.lock requirements/build.lock /src/requirements/
# Before the sources: a change of ours leaves this layer as it is.
RUN /opt/gapless/bin/pip install --require-hashes -r /src/requirements/production.lock \
 && pip install --require-hashes -r /src/requirements/build.lock
COPY . /src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /src \
 && /opt/gapless/bin/pip install --no-deps /wheels/*.whl \
 && /opt/gapless/bin/pip uninstall --yes pip

FROM python:3.13.9-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin gapless \
 && install -d -o gapless -g gapless /var/lib/gapless/worker /var/lib/gapless/objects
COPY --from=build /opt/gapless /opt/gapless
ENV PATH=/opt/gapless/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /var/lib/gapless
ENTRYPOINT ["gapless"]
CMD ["--help"]
