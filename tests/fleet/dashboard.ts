// The type of a dashboard as JSON, from Grafana's own types.  test_schema.py puts a dashboard below
// and has it checked by the TypeScript compiler.
import type { Dashboard, FieldConfig, FieldConfigSource, Panel } from '@grafana/schema';
import type * as barGauge from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as stateTimeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeSeries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type { Dataquery } from '@grafana/grafana-foundation-sdk/prometheus';

// A value in JSON: enums by their values.
type Json<T> = unknown extends T
	? T
	: T extends string
		? `${T}`
		: T extends (infer Item)[]
			? Json<Item>[]
			: T extends object
				? { [Key in keyof T]: Json<T[Key]> }
				: T;

// The same where Grafana adds the defaults.
type Partly<T> = unknown extends T
	? T
	: T extends string
		? `${T}`
		: T extends (infer Item)[]
			? Partly<Item>[]
			: T extends object
				? { [Key in keyof T]?: Partly<T[Key]> }
				: T;

type Defaults<Custom> = Json<Omit<FieldConfig, 'custom'>> & { custom?: Partly<Custom> };

type PanelOf<Kind extends string, Options, Custom> = Json<
	Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'>
> & {
	type: Kind;
	options: Partly<Options>;
	fieldConfig: Json<Omit<FieldConfigSource, 'defaults'>> & { defaults: Defaults<Custom> };
	targets: Json<Omit<Dataquery, '_implementsDataqueryVariant'>>[];
};

type AnyPanel =
	| PanelOf<'bargauge', barGauge.Options, Record<string, never>>
	| PanelOf<'stat', stat.Options, Record<string, never>>
	| PanelOf<'state-timeline', stateTimeline.Options, stateTimeline.FieldConfig>
	| PanelOf<'table', table.Options, table.FieldConfig>
	| PanelOf<'timeseries', timeSeries.Options, timeSeries.FieldConfig>;

type Board = Json<Omit<Dashboard, 'panels'>> & { panels: AnyPanel[] };
