//! The Debian package: what is in it, what lintian says, and its life on a machine: installed, used, removed, purged.

use crate::common::{Folder, metwatch};
use std::path::PathBuf;
use std::process::Command;

/// The package made of the binary under test.
fn package(folder: &Folder) -> PathBuf {
    let made = Command::new("bash")
        .args(["board/build", "amd64", env!("CARGO_BIN_EXE_metwatch")])
        .env("METWATCH_DEB_DIR", folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    PathBuf::from(String::from_utf8(made.stdout).unwrap().trim())
}

fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// The machine's own file system with a layer above it that goes away: a machine that has never seen the package, in a second.
/// `tests/run` needs no network for it; a clean Debian is the long test of docs/packages.md.
const LIFE: &str = r#"set -eu
deb=$1 top=$2
mkdir -p "$top/layer" "$top/root"; mount -t tmpfs tmpfs "$top/layer"; mkdir "$top/layer/up" "$top/layer/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$top/layer/up,workdir=$top/layer/work" "$top/root"
mount --bind /proc "$top/root/proc"; mount --bind /dev "$top/root/dev"
cp "$deb" "$top/root/root/metwatch.deb"
there() { chroot "$top/root" "$@"; }
gone() { if there test -e "$1"; then echo "$1 is there"; exit 1; fi; }
if there getent passwd metwatch; then echo "this machine has a user metwatch already"; exit 1; fi
there dpkg -i /root/metwatch.deb
echo "== installed"
there metwatch --version
there stat -c '%a %U %n' /etc/metwatch/credentials /var/lib/metwatch /var/lib/metwatch/clinical
there systemctl is-enabled metwatch.service
there sed -i 's/0.0.0.0:11112/127.0.0.1:0/; s/127.0.0.1:8480/127.0.0.1:0/; s/127.0.0.1:9480/127.0.0.1:0/; s/^\[alert\]/[alert]\nembedded_port = 0/' /etc/metwatch/metwatch.toml
echo "== check"
there metwatch check --config /etc/metwatch/metwatch.toml
gone /var/lib/metwatch/store  # made by root, the service could not use it
echo "== doctor"
there metwatch doctor --config /etc/metwatch/metwatch.toml
there install -d -o metwatch -g metwatch -m 700 /var/lib/metwatch/store
there sh -c 'echo patient > /var/lib/metwatch/store/kept'
there dpkg -i /root/metwatch.deb
echo "== configuration after an update: $(there grep -c embedded_port /etc/metwatch/metwatch.toml)"
there dpkg -r metwatch
echo "== removed: $(there ls /etc/metwatch/metwatch.toml /var/lib/metwatch/store/kept | tr '\n' ' ')"
gone /usr/bin/metwatch
there dpkg -P metwatch
echo "== purged: $(there ls /var/lib/metwatch/store/kept)"
gone /etc/metwatch
there dpkg -i /root/metwatch.deb >/dev/null
there env METWATCH_PURGE_DATA=yes dpkg -P metwatch >/dev/null
gone /var/lib/metwatch
echo "== purged with the data"
"#;

#[test]
fn the_package_holds_what_a_box_needs_and_lintian_agrees() {
    let folder = Folder::new("package");
    let deb = package(&folder);
    let size = std::fs::metadata(&deb).unwrap().len();
    assert!(size < 40 << 20, "{size} bytes");
    let files = said(Command::new("dpkg-deb").arg("-c").arg(&deb));
    for file in [
        "./usr/bin/metwatch",
        "./lib/systemd/system/metwatch.service",
        "./usr/lib/sysusers.d/metwatch.conf",
        "./usr/lib/tmpfiles.d/metwatch.conf",
        "./etc/metwatch/metwatch.toml",
        "./usr/share/metwatch/board/orin-nx.toml",
        "./usr/share/metwatch/metwatch-gpu.conf",
        "./usr/share/man/man1/metwatch.1.gz",
        "./usr/share/doc/metwatch/copyright",
    ] {
        assert!(files.lines().any(|l| l.ends_with(file)), "{file} is missing:\n{files}");
    }
    assert!(files.lines().all(|l| l.contains(" root/root ")), "{files}");
    let control = said(Command::new("dpkg-deb").arg("-I").arg(&deb));
    // The newest symbol of glibc that the binary asks for decides who can install it: JetPack 6 has 2.35.
    assert!(control.contains("Depends: libc6 (>= 2.35)"), "{control}");
    assert!(
        said(Command::new("dpkg-deb").arg("-I").arg(&deb).arg("conffiles")).contains("/etc/metwatch/metwatch.toml")
    );
    // Tags that follow from being no package of Debian's own: no debhelper, no closed bug, the address of nobody, libraries inside.
    let suppressed =
        "bogus-mail-host,bogus-mail-host-in-debian-changelog,maintainer-script-calls-systemctl,embedded-library";
    let output = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning", "--suppress-tags", suppressed])
        .arg(&deb)
        .output()
        .expect("tests/run installs lintian");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_package_is_installed_used_removed_and_purged_and_keeps_patients() {
    let folder = Folder::new("package-life");
    let deb = package(&folder);
    let is_root = said(Command::new("id").arg("-u")).trim() == "0";
    let mut command = if is_root { Command::new("unshare") } else { Command::new("sudo") };
    if !is_root {
        command.arg("unshare");
    }
    let text = said(command.args(["--mount", "bash", "-c", LIFE, "life"]).arg(&deb).arg(folder.path()));
    let part = |name: &str| text.split("== ").find(|p| p.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
    let version = said(metwatch().arg("--version"));
    assert!(part("installed").contains(version.trim()), "{text}");
    for line in [
        "700 root /etc/metwatch/credentials",
        "700 metwatch /var/lib/metwatch",
        "770 metwatch /var/lib/metwatch/clinical",
        "enabled",
    ] {
        assert!(part("installed").lines().any(|l| l == line), "{line}: {text}");
    }
    assert!(text.contains("enabled, not started"), "{text}");
    assert!(!part("check").contains("WRONG"), "{text}");
    assert!(part("doctor").contains("0 problems"), "{text}");
    assert!(part("configuration").starts_with("configuration after an update: 1"), "{text}");
    assert!(part("removed").contains("/etc/metwatch/metwatch.toml /var/lib/metwatch/store/kept"), "{text}");
    assert!(part("purged: /var").contains("kept"), "{text}");
    part("purged with the data");
}
