package main

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs/types"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.uber.org/zap"
)

// Config takes those options of contrib's receiver, under its names, that the benchmark sets.
type Config struct {
	Region string `mapstructure:"region"`
	Logs   struct {
		PollInterval        time.Duration `mapstructure:"poll_interval"`
		MaxEventsPerRequest int32         `mapstructure:"max_events_per_request"`
		StartFrom           time.Time     `mapstructure:"start_from"`
		Groups              struct {
			Named map[string]struct{} `mapstructure:"named"`
		} `mapstructure:"groups"`
	} `mapstructure:"logs"`
}

// standIn does what any receiver of CloudWatch Logs on the AWS SDK must do to an event, and no more: list it page by
// page, make a log record of it, hand the page on before the next is asked for. It remembers where it is in memory only.
type standIn struct {
	config   *Config
	logger   *zap.Logger
	next     consumer.Logs
	client   *cloudwatchlogs.Client
	from     map[string]int64
	stop     context.CancelFunc
	finished chan struct{}
}

func newFactory() receiver.Factory {
	return receiver.NewFactory(
		component.MustNewType("awscloudwatch"),
		func() component.Config { return &Config{} },
		receiver.WithLogs(newStandIn, component.StabilityLevelDevelopment),
	)
}

func newStandIn(
	_ context.Context, settings receiver.Settings, config component.Config, next consumer.Logs,
) (receiver.Logs, error) {
	options, ok := config.(*Config)
	if !ok {
		return nil, fmt.Errorf("not this receiver's configuration: %T", config)
	}
	return &standIn{config: options, logger: settings.Logger, next: next, from: map[string]int64{}}, nil
}

func (s *standIn) Start(ctx context.Context, _ component.Host) error {
	settings, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(s.config.Region))
	if err != nil {
		return err
	}
	s.client = cloudwatchlogs.NewFromConfig(settings)
	for group := range s.config.Logs.Groups.Named {
		s.from[group] = s.config.Logs.StartFrom.UnixMilli()
	}
	running, stop := context.WithCancel(context.Background())
	s.stop, s.finished = stop, make(chan struct{})
	go s.run(running)
	return nil
}

func (s *standIn) Shutdown(context.Context) error {
	if s.stop != nil {
		s.stop()
		<-s.finished
	}
	return nil
}

func (s *standIn) run(ctx context.Context) {
	defer close(s.finished)
	ticks := time.NewTicker(s.config.Logs.PollInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			for group, from := range s.from {
				reached, err := s.read(ctx, group, from, now.UnixMilli())
				s.from[group] = reached
				if err != nil && ctx.Err() == nil {
					s.logger.Error("group was not read to its end", zap.String("group", group), zap.Error(err))
				}
			}
		}
	}
}

// read lists a group between two instants (Unix milliseconds) and returns where to go on: behind the last event.
func (s *standIn) read(ctx context.Context, group string, from, to int64) (int64, error) {
	reached := from
	pages := cloudwatchlogs.NewFilterLogEventsPaginator(s.client, &cloudwatchlogs.FilterLogEventsInput{
		LogGroupName: aws.String(group),
		StartTime:    aws.Int64(from),
		EndTime:      aws.Int64(to),
		Limit:        aws.Int32(s.config.Logs.MaxEventsPerRequest),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return reached, err
		}
		if len(page.Events) == 0 {
			continue
		}
		if err := s.next.ConsumeLogs(ctx, s.records(group, page.Events)); err != nil {
			return reached, err
		}
		reached = aws.ToInt64(page.Events[len(page.Events)-1].Timestamp) + 1
	}
	return reached, nil
}

func (s *standIn) records(group string, events []types.FilteredLogEvent) plog.Logs {
	logs := plog.NewLogs()
	observed := pcommon.NewTimestampFromTime(time.Now())
	streams := map[string]plog.LogRecordSlice{}
	for i := range events {
		event := &events[i]
		stream := aws.ToString(event.LogStreamName)
		into, known := streams[stream]
		if !known {
			resource := logs.ResourceLogs().AppendEmpty()
			attributes := resource.Resource().Attributes()
			attributes.PutStr("aws.region", s.config.Region)
			attributes.PutStr("cloudwatch.log.group.name", group)
			attributes.PutStr("cloudwatch.log.stream", stream)
			into = resource.ScopeLogs().AppendEmpty().LogRecords()
			streams[stream] = into
		}
		record := into.AppendEmpty()
		record.SetTimestamp(pcommon.NewTimestampFromTime(time.UnixMilli(aws.ToInt64(event.Timestamp))))
		record.SetObservedTimestamp(observed)
		record.Body().SetStr(aws.ToString(event.Message))
		record.Attributes().PutStr("id", aws.ToString(event.EventId))
	}
	return logs
}
