//! The shapes of one phantom patient, drawn by seed. Millimeters round the center of the abdomen: x to the left, y to the back, z to the head.

use super::noise::Draws;

/// An ellipsoid.
#[derive(Debug, Clone, Copy)]
pub struct Ellipsoid {
    /// Center in mm.
    pub center: [f32; 3],
    /// Half axes in mm.
    pub half: [f32; 3],
}

impl Ellipsoid {
    /// Squared relative radius: below 1 inside.
    pub fn level(&self, p: [f32; 3]) -> f32 {
        (0..3).map(|a| ((p[a] - self.center[a]) / self.half[a]).powi(2)).sum()
    }
}

/// A ball of the tubes (colon, vessels).
#[derive(Debug, Clone, Copy)]
pub struct Ball {
    /// Center in mm.
    pub center: [f32; 3],
    /// Radius in mm.
    pub radius: f32,
    /// Length along the tube so far, in mm.
    pub along: f32,
}

/// A lesion or tumor: a ball with a rough surface.
#[derive(Debug, Clone, Copy)]
pub struct Blob {
    /// Center in mm.
    pub center: [f32; 3],
    /// Half axes in mm.
    pub half: [f32; 3],
    /// Seed of its surface.
    pub seed: u64,
}

/// Mean attenuations in HU.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "each field is the attenuation of the tissue it is named after")]
pub struct Attenuation {
    pub fat: f32,
    pub muscle: f32,
    pub bone: f32,
    pub liver: f32,
    pub vessel: f32,
    pub spleen: f32,
    pub kidney: f32,
    pub aorta: f32,
    pub bowel_wall: f32,
    pub stool: f32,
    pub lesion_minus_liver: f32,
    pub tumor: f32,
    pub noise: f32,
}

/// Everything that is drawn for one patient.
pub struct Anatomy {
    pub body: [f32; 2],
    pub fat_mm: f32,
    pub wall_mm: f32,
    /// Height of the diaphragm's dome over the center.
    pub dome_mm: f32,
    pub liver: [Ellipsoid; 3],
    pub vessels: Vec<Ball>,
    pub lesions: Vec<Blob>,
    pub spleen: Ellipsoid,
    pub kidneys: [Ellipsoid; 2],
    pub stomach: Ellipsoid,
    pub gallbladder: Ellipsoid,
    pub heart: Ellipsoid,
    pub bladder: Ellipsoid,
    pub spine_y: f32,
    pub colon: Vec<Ball>,
    pub tumor: Option<Blob>,
    pub hu: Attenuation,
    /// Seeds of deformation (3), liver, tumor, fat, stool, bowel textures and of the noise.
    pub seeds: [u64; 9],
    /// Latent texture levels, 0 to 1.
    pub liver_texture: f32,
    pub tumor_texture: f32,
    pub clinical: super::ClinicalTruth,
}

/// Points every 4 mm along a polyline, radius modulated as haustra do.
fn tube(points: &[[f32; 4]], haustra: f32) -> Vec<Ball> {
    let mut balls = Vec::new();
    let mut along = 0.0f32;
    for pair in points.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let length = (0..3).map(|k| (b[k] - a[k]).powi(2)).sum::<f32>().sqrt();
        let n = (length / 4.0).ceil().max(1.0) as usize;
        for k in 0..n {
            let t = k as f32 / n as f32;
            let radius = (a[3] + (b[3] - a[3]) * t) * (1.0 + haustra * (along * 0.22).sin());
            balls.push(Ball { center: std::array::from_fn(|c| a[c] + (b[c] - a[c]) * t), radius, along });
            along += length / n as f32;
        }
    }
    balls
}

impl Anatomy {
    /// Draws a patient.
    pub fn draw(seed: u64, with_tumor: bool) -> Anatomy {
        let mut d = Draws::new(seed);
        let mut u = |low: f64, high: f64| d.uniform(low, high) as f32;
        let body = [u(158.0, 180.0), u(112.0, 130.0)];
        let (fat_mm, wall_mm) = (u(10.0, 24.0), u(8.0, 12.0));
        let dome_mm = u(112.0, 128.0);
        let size = u(0.93, 1.07);
        let liver = [
            Ellipsoid {
                center: [-72.0 + u(-5.0, 5.0), u(-6.0, 6.0), 52.0 + u(-8.0, 8.0)],
                half: [72.0 * size, 72.0 * size, 74.0 * size],
            },
            Ellipsoid {
                center: [0.0 + u(-8.0, 8.0), -38.0 + u(-6.0, 4.0), 76.0 + u(-6.0, 6.0)],
                half: [70.0 * size, 34.0, 32.0 * size],
            },
            Ellipsoid { center: [-92.0 + u(-4.0, 4.0), 12.0, 18.0 + u(-14.0, 4.0)], half: [38.0, 44.0, 58.0] },
        ];
        let spine_y = body[1] - fat_mm - 48.0;
        let j = |u: &mut dyn FnMut(f64, f64) -> f32, p: [f32; 4]| {
            [p[0] + u(-7.0, 7.0), p[1] + u(-7.0, 7.0), p[2] + u(-7.0, 7.0), p[3] * u(0.85, 1.15)]
        };
        let wide = body[0] - fat_mm - wall_mm - 30.0;
        let path = [
            [-wide + 8.0, 5.0, -105.0, 26.0],
            [-wide, 20.0, -60.0, 25.0],
            [-wide + 4.0, 24.0, -22.0, 22.0],
            [-wide + 35.0, -38.0, -38.0, 21.0],
            [-30.0, -62.0, -52.0, 20.0],
            [35.0, -60.0, -45.0, 20.0],
            [wide - 25.0, -30.0, -8.0, 19.0],
            [wide - 6.0, 30.0, 22.0, 19.0],
            [wide, 34.0, -30.0, 18.0],
            [wide - 4.0, 24.0, -90.0, 17.0],
            [62.0, -6.0, -122.0, 17.0],
            [12.0, -14.0, -112.0, 17.0],
            [8.0, 22.0, -134.0, 19.0],
            [0.0, 40.0, -165.0, 21.0],
        ];
        let path: Vec<[f32; 4]> = path.into_iter().map(|p| j(&mut u, p)).collect();
        let colon = tube(&path, 0.12);
        let vessels = [
            vec![
                [-25.0, 0.0, 50.0, 8.0],
                [-45.0, -5.0, 62.0, 7.0],
                [-85.0, 15.0, 70.0, 5.0],
                [-110.0, 20.0, 75.0, 3.5],
            ],
            vec![[-45.0, -5.0, 62.0, 6.0], [-70.0, -30.0, 58.0, 4.5], [-95.0, -45.0, 52.0, 3.0]],
            vec![[-40.0, -5.0, 60.0, 6.0], [-5.0, -35.0, 75.0, 4.0], [35.0, -40.0, 80.0, 3.0]],
            vec![[-20.0, 20.0, 98.0, 7.0], [-55.0, 5.0, 88.0, 5.0], [-90.0, -10.0, 70.0, 3.5]],
        ];
        let vessels: Vec<Ball> = vessels.iter().flat_map(|v| tube(v, 0.0)).collect();
        let n_lesions = u(0.0, 5.99) as usize;
        let mut lesions = Vec::new();
        for _ in 0..n_lesions {
            let radius = u(6.0, 18.0);
            let center = [-75.0 + u(-38.0, 38.0), u(-38.0, 38.0), 52.0 + u(-38.0, 38.0)];
            lesions.push((center, std::array::from_fn(|_| radius * u(0.85, 1.15))));
        }
        // The tumor grows from the wall: its center lies on the tube's surface, away from the tube's ends.
        let at = (u(0.08, 0.97) * colon.len() as f32) as usize;
        let ball = colon[at.min(colon.len() - 1)];
        let (direction, diameter) = ([u(-1.0, 1.0), u(-1.0, 1.0), u(-0.5, 0.5)], u(25.0, 60.0));
        let norm = direction.iter().map(|v| v * v).sum::<f32>().sqrt().max(0.1);
        let tumor_center = std::array::from_fn(|a| ball.center[a] + 0.5 * ball.radius * direction[a] / norm);
        let tumor_half = std::array::from_fn(|_| 0.5 * diameter * u(0.92, 1.08));
        let hu = Attenuation {
            fat: u(-112.0, -96.0),
            muscle: u(52.0, 68.0),
            bone: u(230.0, 420.0),
            liver: u(98.0, 132.0),
            vessel: u(30.0, 55.0),
            spleen: u(110.0, 138.0),
            kidney: u(160.0, 205.0),
            aorta: u(135.0, 190.0),
            bowel_wall: u(52.0, 72.0),
            stool: u(-20.0, 35.0),
            lesion_minus_liver: u(-62.0, -34.0),
            tumor: u(82.0, 102.0),
            noise: u(9.0, 16.0),
        };
        let (liver_texture, tumor_texture) = (u(0.0, 1.0), u(0.0, 1.0));
        let organs = [
            Ellipsoid { center: [wide - 15.0, 42.0, 76.0 + u(-8.0, 8.0)], half: [30.0 * u(0.9, 1.1), 40.0, 46.0] },
            Ellipsoid { center: [-58.0, spine_y - 12.0, u(-14.0, 2.0)], half: [27.0, 26.0, 52.0] },
            Ellipsoid { center: [60.0, spine_y - 12.0, u(-4.0, 12.0)], half: [27.0, 26.0, 52.0] },
            Ellipsoid { center: [58.0, -38.0, 48.0 + u(-6.0, 6.0)], half: [40.0, 32.0, 40.0 * u(0.9, 1.1)] },
            Ellipsoid { center: [-58.0, -52.0, 8.0 + u(-6.0, 6.0)], half: [16.0, 20.0, 24.0] },
            Ellipsoid { center: [22.0, -28.0, dome_mm + 44.0], half: [58.0, 48.0, 42.0] },
            Ellipsoid { center: [0.0, -42.0, -150.0], half: [38.0, 32.0, 26.0] },
        ];
        let clinical = super::ClinicalTruth {
            afp_ng_per_ml: (1.3 + 0.7 * d.normal()).exp(),
            dissected_lymph_nodes: d.uniform(4.0, 36.0) as u32,
            perineural_invasion: d.uniform(0.0, 1.0) < 0.35,
            tumor_nodules: d.uniform(0.0, 1.0) < 0.22,
        };
        let lesions = lesions.into_iter().map(|(center, half)| Blob { center, half, seed: d.seed() }).collect();
        let tumor = with_tumor.then(|| Blob { center: tumor_center, half: tumor_half, seed: d.seed() });
        let [spleen, right_kidney, left_kidney, stomach, gallbladder, heart, bladder] = organs;
        Anatomy {
            body,
            fat_mm,
            wall_mm,
            dome_mm,
            liver,
            vessels,
            lesions,
            spleen,
            kidneys: [right_kidney, left_kidney],
            stomach,
            gallbladder,
            heart,
            bladder,
            spine_y,
            colon,
            tumor,
            hu,
            seeds: std::array::from_fn(|_| d.seed()),
            liver_texture,
            tumor_texture,
            clinical,
        }
    }
}
