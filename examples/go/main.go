// Events as JSON lines, with franz-go: `go run . order-events invoice-events`.
//
// It keeps nothing: each start reads what the topics still have. To go on where it was, store the last seq of each
// partition together with your own effects.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
)

// The fields that this program needs; all others of a record are skipped.

// Event is what all events have.
type Event struct {
	ID       string `avro:"-" json:"id"`
	Type     string `avro:"-" json:"type"`
	SellerID string `avro:"seller_id" json:"seller_id"`
	OrderID  string `avro:"order_id" json:"order_id"`
}

func (e *Event) describe(id, recordName string) { e.ID, e.Type = id, recordName }

type orderPlaced struct {
	Event
	Currency   string `avro:"currency" json:"currency"`
	GrossMinor int64  `avro:"gross_minor" json:"gross_minor"`
}

type orderStateChanged struct {
	Event
	Version int    `avro:"version" json:"version"`
	ToState string `avro:"to_state" json:"to_state"`
}

// issued is an invoice or a credit note.
type issued struct {
	Event
	InvoiceNumber string `avro:"invoice_number" json:"invoice_number"`
	Currency      string `avro:"currency" json:"currency"`
	Totals        struct {
		GrossMinor int64 `avro:"gross_minor" json:"gross_minor"`
	} `avro:"totals" json:"totals"`
}

type described interface{ describe(id, recordName string) }

// newEvent returns what an event of this type is decoded into. Types without a case are those that you don't need, or
// those of a later release.
func newEvent(recordName string) described {
	switch recordName {
	case "gapless.OrderPlaced":
		return new(orderPlaced)
	case "gapless.OrderStateChanged":
		return new(orderStateChanged)
	case "gapless.InvoiceIssued", "gapless.CreditNoteIssued":
		return new(issued)
	default:
		return new(Event)
	}
}

// decoder decodes records by the schemas that the registry has for their ids.
type decoder struct {
	registry *sr.Client
	serde    *sr.Serde
}

func (d *decoder) decode(ctx context.Context, value []byte) (described, error) {
	event, err := d.serde.DecodeNew(value)
	if errors.Is(err, sr.ErrNotRegistered) {
		if err = d.register(ctx, value); err == nil {
			event, err = d.serde.DecodeNew(value)
		}
	}
	if err != nil {
		return nil, err
	}
	return event.(described), nil
}

// register asks the registry for the schema of a record, once for each id.
func (d *decoder) register(ctx context.Context, value []byte) error {
	id, _, err := d.serde.DecodeID(value)
	if err != nil {
		return err
	}
	found, err := d.registry.SchemaByID(ctx, id)
	if err != nil {
		return fmt.Errorf("schema %d: %w", id, err)
	}
	// A cache of its own: versions of a record share its name.
	schema, err := avro.ParseWithCache(found.Schema, "", &avro.SchemaCache{})
	if err != nil {
		return fmt.Errorf("schema %d: %w", id, err)
	}
	record, ok := schema.(avro.NamedSchema)
	if !ok {
		return fmt.Errorf("schema %d is no record", id)
	}
	d.serde.Register(id, newEvent(record.FullName()),
		sr.GenerateFn(func() any { return newEvent(record.FullName()) }),
		sr.DecodeFn(func(body []byte, into any) error { return avro.Unmarshal(schema, body, into) }))
	return nil
}

func run(ctx context.Context, brokers, registryURL string, topics []string) error {
	registry, err := sr.NewClient(sr.URLs(registryURL))
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.ConsumerGroup("example-go"),
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	decoder := decoder{registry, sr.NewSerde()}
	output := json.NewEncoder(os.Stdout)
	// The last seq of each partition: what is not greater is a repeat.
	last := map[place]int64{}
	for {
		fetched := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetched.Err(); err != nil {
			return err
		}
		for _, record := range fetched.Records() {
			headers := map[string]string{}
			for _, each := range record.Headers {
				headers[each.Key] = string(each.Value)
			}
			its := place{record.Topic, record.Partition}
			seq, err := strconv.ParseInt(headers["seq"], 10, 64)
			if err != nil {
				return fmt.Errorf("%v at %d: the header seq: %w", its, record.Offset, err)
			}
			if seq <= last[its] {
				continue
			}
			event, err := decoder.decode(ctx, record.Value)
			if err != nil {
				return fmt.Errorf("%v at %d: %w", its, record.Offset, err)
			}
			event.describe(headers["ce_id"], headers["type"])
			if err := output.Encode(event); err != nil {
				return err
			}
			last[its] = seq
		}
	}
}

type place struct {
	topic     string
	partition int32
}

func main() {
	brokers, registryURL, topics := os.Getenv("KAFKA"), os.Getenv("GAPLESS_URL"), os.Args[1:]
	if brokers == "" || registryURL == "" || len(topics) == 0 {
		log.Fatal("usage: KAFKA=host:port GAPLESS_URL=http://host:port go run . TOPIC…")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, brokers, registryURL, topics); err != nil {
		log.Fatal(err)
	}
}
