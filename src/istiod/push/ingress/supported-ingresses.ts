/** Which Ingresses are ours to serve. Source: Istio pilot/pkg/config/kube/ingress (shouldProcessIngressWithClass). */
import type { ObjectOf } from "../../../api/kinds/index.ts";
import type { MeshConfig } from "../../../api/mesh/mesh-config.ts";
import type { ObjectsOf } from "../../../registry/registry.ts";

type IngressMesh = Pick<MeshConfig, "ingressControllerMode" | "ingressClass">;

const classAnnotation = "kubernetes.io/ingress.class";
/** What an IngressClass of ours says. */
const ourController = "istio.io/ingress-controller";

export function supportedIngresses(objects: ObjectsOf, mesh: IngressMesh): ObjectOf<"Ingress">[] {
  const all = objects("Ingress") as ObjectOf<"Ingress">[];
  if (all.length === 0) return [];
  const controllers = new Map(
    (objects("IngressClass") as ObjectOf<"IngressClass">[]).map(({ metadata, spec }) => [metadata.name, spec.controller]),
  );
  return all.filter((ingress) => isSupported(ingress, controllers, mesh));
}

/** The annotation goes before the class that is named, and that before what the mesh makes of Ingresses without. */
export function isSupported(
  { metadata, spec }: ObjectOf<"Ingress">,
  controllers: ReadonlyMap<string, string>,
  { ingressControllerMode: mode, ingressClass }: IngressMesh,
): boolean {
  if (mode === "OFF" || mode === "UNSPECIFIED") return false;
  const annotated = metadata.annotations[classAnnotation];
  if (annotated !== undefined) return annotated === ingressClass;
  const controller = spec.ingressClassName === undefined ? undefined : controllers.get(spec.ingressClassName);
  return controller === undefined ? mode === "DEFAULT" : controller === ourController;
}
