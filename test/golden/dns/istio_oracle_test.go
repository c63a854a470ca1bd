// What Istio's own agent answers to the queries of names.json: writes names.golden.json beside it. Run inside a checkout of Istio:
//
//	cp istio_oracle_test.go ISTIO/pkg/dns/client/
//	cd ISTIO && CASES=PATH/OF/names.json go test -run TestOracle ./pkg/dns/client/
package client

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"google.golang.org/protobuf/encoding/protojson"

	dnsProto "istio.io/istio/pkg/dns/proto"
)

type oracleCase struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

func TestOracle(t *testing.T) {
	raw, err := os.ReadFile(os.Getenv("CASES"))
	if err != nil {
		t.Skip(err)
	}
	var given struct {
		Table   json.RawMessage `json:"table"`
		Search  []string        `json:"search"`
		Queries []oracleCase    `json:"queries"`
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		t.Fatal(err)
	}
	table := &dnsProto.NameTable{}
	if err := protojson.Unmarshal([]byte(fmt.Sprintf(`{"table":%s}`, given.Table)), table); err != nil {
		t.Fatal(err)
	}
	upstream := makeUpstream(t, map[string]string{"www.bing.com.": "192.0.2.1"})
	server, err := NewLocalDNSServer("ns1", "ns1.svc.cluster.local", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.resolvConfServers = []string{upstream}
	server.searchNamespaces = given.Search
	server.StartDNS()
	server.UpdateLookupTable(table)
	answers := map[string]any{}
	client := dns.Client{Net: "udp", UDPSize: 65535}
	for _, query := range given.Queries {
		message := new(dns.Msg)
		message.SetQuestion(dns.Fqdn(query.Name), dns.StringToType[query.Type])
		response, _, err := client.Exchange(message, server.dnsProxies[0].Address())
		if err != nil {
			t.Fatal(query, err)
		}
		records := []string{}
		for _, record := range response.Answer {
			records = append(records, strings.Join(strings.Fields(record.String()), " "))
		}
		// Istio shuffles addresses; a CNAME stays first.
		first := 0
		if len(records) > 0 && strings.Contains(records[0], " CNAME ") {
			first = 1
		}
		sort.Strings(records[first:])
		answers[query.Type+" "+query.Name] = map[string]any{
			"code": dns.RcodeToString[response.Rcode], "authoritative": response.Authoritative, "truncated": response.Truncated, "answers": records,
		}
	}
	out, _ := json.MarshalIndent(answers, "", "  ")
	if err := os.WriteFile(strings.TrimSuffix(os.Getenv("CASES"), ".json")+".golden.json", append(out, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
