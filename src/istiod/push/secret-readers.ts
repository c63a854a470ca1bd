/**
 * Who may read which Secret. Istio asks Kubernetes whether the proxy's service account may list the secrets of its namespace. Here the
 * namespace is the border, and an account can be kept to the secrets that it lists, by Kubernetes' own annotation for that. The keys of
 * the certificate authority are nobody's.
 */
import type { ConfigObject } from "../../api/kinds/object.ts";
import type { ServiceAccount } from "../../api/kinds/service-account.ts";

const enforced = "kubernetes.io/enforce-mountable-secrets";
const authorityNamespace = "istio-system";
const authoritySecrets: ReadonlySet<string> = new Set(["cacerts", "istio-ca-secret", "topsail-token-key"]);

export interface SecretReader {
  readonly namespace: string;
  /** "" for one that proved none. */
  readonly serviceAccount: string;
}

export class SecretReaders {
  /** Of accounts that are kept to them: names of secrets, by `namespace/account`. */
  readonly #listed: ReadonlyMap<string, ReadonlySet<string>>;

  constructor(accounts: readonly ConfigObject<ServiceAccount>[]) {
    this.#listed = new Map(
      accounts
        .filter(({ metadata }) => metadata.annotations[enforced] === "true")
        .map(({ metadata, spec }) => [`${metadata.namespace}/${metadata.name}`, new Set(spec.secrets.map(({ name }) => name))]),
    );
  }

  /** Why not; undefined: it may. `isCertificateOnly`: no key is asked for, but the certificate of a CA, which is no secret within the namespace. */
  refusal(reader: SecretReader, namespace: string, name: string, isCertificateOnly: boolean): string | undefined {
    if (namespace !== reader.namespace) return `proxy in namespace "${reader.namespace}" may not read secret "${namespace}/${name}"`;
    if (namespace === authorityNamespace && authoritySecrets.has(name)) return "it is the certificate authority's own";
    const listed = this.#listed.get(`${namespace}/${reader.serviceAccount}`);
    if (isCertificateOnly || !listed || listed.has(name)) return undefined;
    return `service account "${reader.serviceAccount}" is kept to the secrets that it lists, and "${name}" is none of them`;
  }
}
