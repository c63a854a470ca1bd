/** Invitations that are open, and what becomes of one that is used: the files of a machine, and no invitation any more. */
import {
  hashOfProof,
  type Invitation,
  invitationSecretName,
  invitationSecretType,
  isEqual,
  readInvitation,
} from "../../api/machine/invitation.ts";
import { clusterEnvFile, type MachineOptions, machineConfig, meshFile, serviceAccountOf } from "../../api/machine/machine-files.ts";
import { isPlainObject } from "../../api/schema/decode.ts";
import { StoreError, type WritableConfigStore } from "../../config/store.ts";
import { log } from "../../lib/log.ts";
import type { Account } from "../ca/service-account-tokens.ts";

const scope = log.scope("onboarding");

export class InvitationRefused extends Error {
  override readonly name = "InvitationRefused";
}

export interface InvitationsOptions {
  readonly store: WritableConfigStore;
  readonly systemNamespace: string;
  /** PEM. */
  readonly roots: () => string;
  readonly issueToken: (account: Account) => Promise<string>;
}

/** Guesses at one invitation before it is withdrawn. */
const maxGuesses = 5;
/** One answer for what is not there, is over or was guessed: nobody learns which. */
const refusal = "the code is not known, has been used, or is too old";

export class Invitations {
  readonly #options: InvitationsOptions;
  readonly #guesses = new Map<string, number>();

  constructor(options: InvitationsOptions) {
    this.#options = options;
  }

  /** Throws InvitationRefused. */
  find(id: string): Invitation {
    const { store } = this.#options;
    const secret = /^[0-9a-f]{16}$/.test(id) ? store.get(this.#key(id)) : undefined;
    const invitation = secret?.spec.type === invitationSecretType ? readInvitation(id, secret.spec.data) : undefined;
    if (!invitation) throw new InvitationRefused(refusal);
    if (invitation.expiresAt.getTime() < Date.now()) {
      void this.#withdraw(id);
      throw new InvitationRefused(refusal);
    }
    return invitation;
  }

  /** Files by name. The invitation is used up when they are handed out, and by one machine alone. */
  async redeem(id: string, proof: Uint8Array): Promise<Record<string, string>> {
    const invitation = this.find(id);
    if (!isEqual(hashOfProof(proof), invitation.proofHash)) {
      const guesses = (this.#guesses.get(id) ?? 0) + 1;
      this.#guesses.set(id, guesses);
      if (guesses >= maxGuesses) await this.#withdraw(id);
      throw new InvitationRefused(refusal);
    }
    const files = await this.#filesFor(invitation);
    try {
      await this.#options.store.delete(this.#key(id));
    } catch (error) {
      if (error instanceof StoreError && error.code === "not-found") throw new InvitationRefused(refusal);
      throw error;
    }
    return files;
  }

  async #filesFor({ namespace, group: name }: Invitation): Promise<Record<string, string>> {
    const { store, systemNamespace, roots, issueToken } = this.#options;
    const group = store.get({ kind: "WorkloadGroup", namespace, name });
    if (!group) throw new InvitationRefused(`there is no WorkloadGroup ${namespace}/${name} any more`);
    const machine: MachineOptions = {
      group,
      meshYaml: this.#configMap("istio", "mesh") ?? "",
      istioNamespace: systemNamespace,
      revision: "",
      clusterId: clusterName(this.#configMap("istio-sidecar-injector", "values")) || "Kubernetes",
      registers: true,
      capturesDns: true,
    };
    const config = machineConfig(machine);
    return {
      "mesh.yaml": meshFile(config),
      "cluster.env": clusterEnvFile(machine, config),
      "root-cert.pem": roots(),
      "istio-token": await issueToken({ namespace, serviceAccount: serviceAccountOf(group) }),
    };
  }

  #configMap(name: string, key: string): string | undefined {
    const { store, systemNamespace } = this.#options;
    return store.get({ kind: "ConfigMap", namespace: systemNamespace, name })?.spec.data[key];
  }

  async #withdraw(id: string): Promise<void> {
    this.#guesses.delete(id);
    await this.#options.store.delete(this.#key(id)).then(
      () => scope.info("invitation is withdrawn", { invitation: id }),
      (error: unknown) =>
        scope.warn("invitation can't be withdrawn", { invitation: id, reason: error instanceof Error ? error.message : error }),
    );
  }

  #key(id: string) {
    return { kind: "Secret", namespace: this.#options.systemNamespace, name: invitationSecretName(id) } as const;
  }
}

function clusterName(values: string | undefined): string {
  try {
    const parsed: unknown = JSON.parse(values ?? "{}");
    const found = ["global", "multiCluster", "clusterName"].reduce<unknown>(
      (at, field) => (isPlainObject(at) ? at[field] : undefined),
      parsed,
    );
    return typeof found === "string" ? found : "";
  } catch {
    return "";
  }
}
