# Images whose `docker run` is scripts/quickstart.sh, with everything built and the sample text fetched:
#   docker build --target cpu -t train_gpt .           &&  docker run -v "$PWD/runs:/train_gpt/runs" train_gpt
#   docker build --target cuda -t train_gpt:cuda .     &&  docker run --gpus all -v "$PWD/runs:/train_gpt/runs" train_gpt:cuda
# See docs/install.md.
FROM debian:bookworm-slim AS cpu
ENV PATH=/train_gpt/build/bin:$PATH
WORKDIR /train_gpt
COPY . .
RUN bash -c 'source scripts/lib.sh; source scripts/sample_data.sh; \
      build_release train_gpt eval_gpt sweep_gpt prepare_data; make_sample_data' && \
    rm -rf /var/lib/apt/lists/* /root/.cache
ENTRYPOINT ["scripts/quickstart.sh"]

# The toolkit has nvcc, which setup.sh looks for.
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04 AS cuda
ENV PATH=/train_gpt/build/bin:$PATH
WORKDIR /train_gpt
COPY . .
RUN bash -c 'source scripts/lib.sh; source scripts/sample_data.sh; \
      build_release train_gpt eval_gpt sweep_gpt prepare_data; make_sample_data' && \
    rm -rf /var/lib/apt/lists/* /root/.cache
ENTRYPOINT ["scripts/quickstart.sh"]
