import type { ApiOptions } from "./api.ts";
import { defineProvider } from "./protocol/define-provider.ts";
import { ProviderProblem } from "./protocol/diagnostics.ts";
import { appData, appResource } from "./resources/app.ts";
import { backingData, backingResource } from "./resources/backing.ts";
import { environmentData, environmentResource } from "./resources/environment.ts";
import { secretData, secretResource } from "./resources/secret.ts";
import { variableData, variableResource } from "./resources/variable.ts";

/** `.internal` is for private use (ICANN, 2024): no public registry will ever answer for it. */
export const PROVIDER_ADDRESS = "shipway.internal/shipway/shipway";

/** `defaults` are what the environment says where the configuration says nothing. */
export function shipwayProvider(
  defaults: { server: string | undefined; token: string | undefined },
  options: Omit<ApiOptions, "server" | "token">,
) {
  return defineProvider({
    address: PROVIDER_ADDRESS,
    attributes: {
      server: {
        type: "string",
        description:
          "Address of Shipway, such as `https://shipway.example.com`. Default: the environment variable `SHIPWAY_SERVER`, which Shipway sets for its own runs.",
        optional: true,
        check: checkServer,
      },
      token: {
        type: "string",
        description:
          "A token of Shipway (`shipway token create`). Default: the environment variable `SHIPWAY_TOKEN`, which Shipway sets for its own runs.",
        optional: true,
        sensitive: true,
      },
    },
    async configure(config) {
      const server = config.server ?? defaults.server;
      const token = config.token ?? defaults.token;
      if (!server || !token) throw missing(server ? "token" : "server");
      const wrong = checkServer(server);
      if (wrong !== undefined) throw new ProviderProblem(`${server} is no address of a Shipway`, { detail: wrong });
      // With it comes zod; a process that Terraform starts for the schema alone does without.
      const { newApi } = await import("./api.ts");
      return newApi({ ...options, server, token });
    },
    resources: {
      shipway_app: appResource,
      shipway_environment: environmentResource,
      shipway_variable: variableResource,
      shipway_secret: secretResource,
      shipway_backing: backingResource,
    },
    dataSources: {
      shipway_app: appData,
      shipway_environment: environmentData,
      shipway_variable: variableData,
      shipway_secret: secretData,
      shipway_backing: backingData,
    },
  });
}

function missing(attribute: "server" | "token"): ProviderProblem {
  const variable = `SHIPWAY_${attribute.toUpperCase()}`;
  return new ProviderProblem(`The provider has no ${attribute}`, {
    detail: `Set the environment variable ${variable}, or \`${attribute}\` in the provider's block.`,
    attribute,
  });
}

function checkServer(server: string): string | undefined {
  const isOne = /^https?:\/\//.test(server) && URL.canParse(server);
  return isOne ? undefined : "Write it with http:// or https://.";
}
