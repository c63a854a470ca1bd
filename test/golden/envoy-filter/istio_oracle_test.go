// What Istio itself makes of the cases of this folder: writes CASE.golden.json beside each CASE.yaml. Run inside a checkout of Istio:
//
//	cp istio_oracle_test.go ISTIO/pilot/pkg/networking/core/envoyfilter/
//	cd ISTIO && CASES=PATH/OF/THIS/FOLDER go test -run TestOracle ./pilot/pkg/networking/core/envoyfilter/
package envoyfilter

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/yaml"

	meshconfig "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	"istio.io/istio/pilot/pkg/config/memory"
	"istio.io/istio/pilot/pkg/model"
	memregistry "istio.io/istio/pilot/pkg/serviceregistry/memory"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/host"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/gvk"
	"istio.io/istio/pkg/util/protomarshal"
	"istio.io/istio/pkg/util/sets"
)

type given struct {
	Listeners []json.RawMessage `json:"listeners"`
	Routes    []json.RawMessage `json:"routes"`
	Clusters  []json.RawMessage `json:"clusters"`
}

type filter struct {
	Metadata struct {
		Name              string `json:"name"`
		Namespace         string `json:"namespace"`
		CreationTimestamp string `json:"creationTimestamp"`
	} `json:"metadata"`
	Spec json.RawMessage `json:"spec"`
}

type oneCase struct {
	Name    string `json:"name"`
	Context string `json:"context"`
	Proxy   struct {
		Namespace string            `json:"namespace"`
		Labels    map[string]string `json:"labels"`
		Metadata  map[string]any    `json:"metadata"`
	} `json:"proxy"`
	ServerPorts  map[int][]int     `json:"server_ports"`
	InboundHosts []host.Name       `json:"inbound_hosts"`
	Extensions   []string          `json:"extensions"`
	Patches      []json.RawMessage `json:"patches"`
	Filters      []filter          `json:"filters"`
}

type caseFile struct {
	Given given     `json:"given"`
	Cases []oneCase `json:"cases"`
}

func TestOracle(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(os.Getenv("CASES"), "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		check(t, err)
		var parsed caseFile
		check(t, yaml.Unmarshal(text, &parsed))
		golden := map[string]any{}
		for _, one := range parsed.Cases {
			t.Run(one.Name, func(t *testing.T) { golden[one.Name] = run(t, parsed.Given, one) })
		}
		out, err := json.MarshalIndent(golden, "", " ")
		check(t, err)
		check(t, os.WriteFile(strings.TrimSuffix(file, ".yaml")+".golden.json", append(out, '\n'), 0o644))
	}
}

func run(t *testing.T, given given, one oneCase) map[string]any {
	context := networking.EnvoyFilter_PatchContext(networking.EnvoyFilter_PatchContext_value[one.Context])
	proxy := &model.Proxy{
		Type:            model.SidecarProxy,
		ConfigNamespace: orElse(one.Proxy.Namespace, "default"),
		Labels:          one.Proxy.Labels,
		Metadata:        &model.NodeMetadata{Raw: one.Proxy.Metadata},
	}
	if version, ok := one.Proxy.Metadata["ISTIO_VERSION"].(string); ok {
		proxy.Metadata.IstioVersion = version
	}
	if context == networking.EnvoyFilter_GATEWAY {
		proxy.Type = model.Router
		ports := model.GatewayPortMap{}
		for port, servers := range one.ServerPorts {
			ports[port] = sets.New(servers...)
		}
		proxy.MergedGateway = &model.MergedGateway{PortMap: ports}
	}
	store := memory.NewController(collections.Pilot, false)
	filters := one.Filters
	if len(one.Patches) > 0 {
		spec, err := json.Marshal(map[string]any{"configPatches": one.Patches})
		check(t, err)
		single := filter{Spec: spec}
		single.Metadata.Name, single.Metadata.Namespace = "case", "istio-system"
		filters = append(filters, single)
	}
	for _, f := range filters {
		spec := &networking.EnvoyFilter{}
		check(t, protomarshal.ApplyJSON(string(f.Spec), spec))
		created := time.Unix(1000, 0)
		if f.Metadata.CreationTimestamp != "" {
			parsed, err := time.Parse(time.RFC3339, f.Metadata.CreationTimestamp)
			check(t, err)
			created = parsed
		}
		_, err := store.Create(config.Config{
			Meta: config.Meta{
				Name: f.Metadata.Name, Namespace: f.Metadata.Namespace, GroupVersionKind: gvk.EnvoyFilter, CreationTimestamp: created,
			},
			Spec: spec,
		})
		check(t, err)
	}
	env := newTestEnvironment(t, memregistry.NewServiceDiscovery(), &meshconfig.MeshConfig{RootNamespace: "istio-system"}, store)
	push := model.NewPushContext()
	push.InitContext(env, nil, nil)
	efw := push.EnvoyFilters(proxy)

	out := map[string]any{}
	listeners := []*listener.Listener{}
	for _, text := range given.Listeners {
		listeners = append(listeners, read(t, text, &listener.Listener{}))
	}
	if len(listeners) > 0 {
		out["listeners"] = write(t, ApplyListenerPatches(context, efw, listeners, false))
	}
	routes := []*route.RouteConfiguration{}
	for _, text := range given.Routes {
		routes = append(routes, ApplyRouteConfigurationPatches(context, proxy, efw, read(t, text, &route.RouteConfiguration{})))
	}
	if len(routes) > 0 {
		out["routes"] = write(t, routes)
	}
	clusters := []*cluster.Cluster{}
	for _, text := range given.Clusters {
		if patched := ApplyClusterMerge(context, efw, read(t, text, &cluster.Cluster{}), one.InboundHosts); patched != nil {
			clusters = append(clusters, patched)
		}
	}
	if len(given.Clusters) > 0 {
		out["clusters"] = write(t, append(clusters, InsertedClusters(context, efw)...))
	}
	if len(one.Extensions) > 0 {
		out["extensions"] = write(t, InsertedExtensionConfigurations(efw, one.Extensions))
	}
	return out
}

func read[T proto.Message](t *testing.T, text json.RawMessage, into T) T {
	check(t, protomarshal.Unmarshal(text, into))
	return into
}

func write[T proto.Message](t *testing.T, messages []T) []json.RawMessage {
	out := []json.RawMessage{}
	for _, message := range messages {
		text, err := protomarshal.MarshalProtoNames(message)
		check(t, err)
		out = append(out, text)
	}
	return out
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
