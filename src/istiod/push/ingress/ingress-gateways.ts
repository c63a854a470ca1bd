/**
 * A Gateway for each Ingress: port 80 for all hosts, 443 for each secret. Its TLS secrets are read from the gateway's namespace, as all are.
 * Source: Istio pilot/pkg/config/kube/ingress/gateways.go.
 */
import type { ObjectOf } from "../../../api/kinds/index.ts";
import type { MeshConfig } from "../../../api/mesh/mesh-config.ts";
import { ingressGatewayName, ingressNamespace, madeObject } from "./made-object.ts";

/** `namespace/name` of an Ingress's Gateway. */
export function gatewayOf(namespace: string, name: string): string {
  return `${ingressNamespace}/${name}-${ingressGatewayName}-${namespace}`;
}

export function ingressGateway(
  { metadata: { name, namespace }, spec }: ObjectOf<"Ingress">,
  mesh: Pick<MeshConfig, "ingressSelector" | "ingressService">,
): ObjectOf<"Gateway"> | undefined {
  const secure = spec.tls.flatMap(({ hosts, secretName }, index) =>
    secretName === ""
      ? []
      : [
          {
            port: { number: 443, protocol: "HTTPS", name: `https-443-ingress-${name}-${namespace}-${index}` },
            hosts: hosts.length > 0 ? hosts : ["*"],
            tls: { mode: "SIMPLE", credentialName: secretName },
          },
        ],
  );
  const plain = { port: { number: 80, protocol: "HTTP", name: `http-80-ingress-${name}-${namespace}` }, hosts: ["*"] };
  return madeObject("Gateway", {
    name: `${name}-${ingressGatewayName}-${namespace}`,
    namespace: ingressNamespace,
    spec: { selector: { istio: selectedGateway(mesh) }, servers: [...secure, plain] },
  });
}

/** Value of the label `istio`: by default that of Istio's own gateway, whose Service has another name. */
function selectedGateway({ ingressSelector, ingressService }: Pick<MeshConfig, "ingressSelector" | "ingressService">): string {
  if (ingressSelector !== "") return ingressSelector;
  return ingressService === "" || ingressService === "istio-ingressgateway" ? "ingressgateway" : ingressService;
}
