// What Istio's control plane makes of name-tables.yaml: writes name-tables.golden.json beside it. Run inside a checkout of Istio:
//
//	cp istio_name_table_oracle_test.go ISTIO/pilot/pkg/xds/
//	cd ISTIO && CASES=PATH/OF/name-tables.yaml go test -run TestNameTableOracle ./pilot/pkg/xds/
package xds_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"istio.io/istio/pilot/pkg/model"
	v3 "istio.io/istio/pilot/pkg/xds/v3"
	"istio.io/istio/pilot/test/xds"
	dnsProto "istio.io/istio/pkg/dns/proto"
)

func TestNameTableOracle(t *testing.T) {
	raw, err := os.ReadFile(os.Getenv("CASES"))
	if err != nil {
		t.Skip(err)
	}
	var istio, kubernetes []string
	for _, document := range strings.Split(string(raw), "\n---\n") {
		if regexp.MustCompile(`(?m)^apiVersion: .*istio\.io/`).MatchString(document) {
			istio = append(istio, document)
		} else {
			kubernetes = append(kubernetes, document)
		}
	}
	tables := map[string]any{}
	for name, meta := range map[string]model.NodeMetadata{
		"plain":     {},
		"capturing": {DNSCapture: true},
		"network":   {DNSCapture: true, Network: "near"},
		"limited":   {DNSCapture: true, Labels: map[string]string{"app": "limited"}},
		"elsewhere": {DNSCapture: true},
	} {
		namespace := "ns1"
		if name == "elsewhere" {
			namespace = "ns2"
		}
		s := xds.NewFakeDiscoveryServer(t, xds.FakeOptions{
			ConfigString:           strings.Join(istio, "\n---\n"),
			KubernetesObjectString: strings.Join(kubernetes, "\n---\n"),
		})
		meta.Namespace = namespace
		meta.ClusterID = "Kubernetes"
		ads := s.ConnectADS().WithType(v3.NameTableType).WithID("sidecar~10.9.1.1~test." + namespace + "~" + namespace + ".svc.cluster.local")
		response := ads.RequestResponseAck(t, &discovery.DiscoveryRequest{Node: &core.Node{Id: ads.ID, Metadata: meta.ToStruct()}})
		table := &dnsProto.NameTable{}
		if err := response.Resources[0].UnmarshalTo(table); err != nil {
			t.Fatal(err)
		}
		text, _ := protojson.Marshal(table)
		var value map[string]any
		_ = json.Unmarshal(text, &value)
		tables[name] = value["table"]
	}
	out, _ := json.MarshalIndent(tables, "", "  ")
	if err := os.WriteFile(strings.TrimSuffix(os.Getenv("CASES"), ".yaml")+".golden.json", append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
