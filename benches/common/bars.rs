//! A chart of panels, some side by side, with a bar to a cache, or two.

use std::error::Error;
use std::ops::RangeInclusive;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const PANEL: (u32, u32) = (420, 290);
const OWN: RGBColor = RGBColor(0xD9, 0x5F, 0x02);
const CACHE: RGBColor = RGBColor(0x8D, 0xA0, 0xCB);
const NO_CACHE: RGBColor = RGBColor(0xCC, 0xCC, 0xCC);
/// Pixels for what stands behind a bar.
const VALUES: i32 = 56;
/// How much of its colour the second bar of a cache has; the rest is white.
const SECOND: f64 = 0.45;

pub(crate) type Length = fn(f64, &RangeInclusive<f64>) -> f64;

#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: String,
    /// Panels side by side.
    pub(crate) columns: usize,
    /// The length of a bar by its value and the least and greatest ones of its panel; the longest is 1.
    pub(crate) length: Length,
    pub(crate) panels: Vec<Panel>,
}

#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Of a second bar below the first.
    pub(crate) second: Option<f64>,
    pub(crate) kind: Kind,
}

/// What a bar is of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Own,
    Cache,
    /// No cache, but something to hold caches against.
    Bound,
}

impl Kind {
    fn color(self) -> RGBColor {
        match self {
            Self::Own => OWN,
            Self::Cache => CACHE,
            Self::Bound => NO_CACHE,
        }
    }
}

impl Chart {
    /// Draws the chart, unless it has no panels.
    pub(crate) fn draw(mut self, path: &Path) -> Result<(), Box<dyn Error>> {
        if self.panels.is_empty() {
            return Ok(());
        }
        for panel in &mut self.panels {
            panel.bars.sort_by(|a, b| a.value.total_cmp(&b.value));
        }
        let rows = self.panels.len().div_ceil(self.columns);
        let size = (PANEL.0 * self.columns as u32, PANEL.1 * rows as u32 + 40);
        let root = SVGBackend::new(path, size).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.titled(&self.title, ("sans-serif", 22))?;
        let bars = self.panels.iter().flat_map(|panel| &panel.bars);
        let longest = bars.map(|bar| bar.name.chars().count()).max().unwrap_or(0);
        let names = (longest * 13 / 2) as i32;
        for (area, panel) in root.split_evenly((rows, self.columns)).iter().zip(&self.panels) {
            panel.draw(area, self.length, names)?;
        }
        root.present()?;
        Ok(())
    }
}

impl Panel {
    /// Draws the bars, with so many pixels for their names.
    fn draw<DB: DrawingBackend>(
        &self,
        area: &DrawingArea<DB, Shift>,
        length: Length,
        names: i32,
    ) -> Result<(), Box<dyn Error>>
    where
        DB::ErrorType: 'static,
    {
        let area = area.margin(4, 4, 10, 10);
        let area = area.titled(&self.title, ("sans-serif", 13))?;
        let (width, height) = area.dim_in_pixel();
        let room = f64::from(width) - f64::from(names + VALUES);
        let has_second = self.bars.iter().any(|bar| bar.second.is_some());
        let most = if has_second { 30.0 } else { 22.0 };
        let slot = (f64::from(height) / self.bars.len() as f64).min(most);
        let values =
            || self.bars.iter().flat_map(|bar| [bar.value, bar.second.unwrap_or(bar.value)]);
        let least = values().reduce(f64::min).unwrap_or(1.0);
        let greatest = values().reduce(f64::max).unwrap_or(1.0);
        let text = ("sans-serif", 12).into_font().color(&BLACK);
        for (number, bar) in self.bars.iter().enumerate() {
            let top = (number as f64 * slot) as i32;
            let bottom = ((number + 1) as f64 * slot) as i32 - 3;
            let before = text.pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new(bar.name.clone(), (names - 5, (top + bottom) / 2), before))?;
            let parts = match bar.second {
                None => vec![(bar.value, top, bottom, 1.0)],
                Some(second) => {
                    let middle = (top + bottom) / 2;
                    vec![(bar.value, top, middle, 1.0), (second, middle, bottom, SECOND)]
                }
            };
            for (value, top, bottom, share) in parts {
                let end = names + (room * length(value, &(least..=greatest))) as i32;
                let fill = bar.kind.color().mix(share).filled();
                area.draw(&Rectangle::new([(names, top), (end, bottom)], fill))?;
                let after = text.pos(Pos::new(HPos::Left, VPos::Center));
                let decimals = usize::from(value.fract() != 0.0);
                area.draw(&Text::new(
                    format!("{value:.decimals$}"),
                    (end + 4, (top + bottom) / 2),
                    after,
                ))?;
            }
        }
        Ok(())
    }
}
