//! The conformance statement (layout of PS3.2), its tables made from what the code itself goes by.

use super::config::RESULT_CLASSES;
use super::negotiate::{APPLICATION_CONTEXT, CONTEXTS_MAX};
use super::{Config, commitment, link, part10, peer, sop_class, status, syntax, walker};
use dicom_encoding::TransferSyntaxIndex;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

/// The statement as Markdown; `docs/conformance.md` is this text.
pub fn conformance_statement() -> String {
    let config = Config::default();
    let parts = [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("services", services()),
        ("associations", associations(&config)),
        ("transfer_syntaxes", transfer_syntaxes()),
        ("storage_prefix", sop_class::STORAGE_PREFIX.to_owned()),
        (
            "analysed",
            table(
                &["SOP class", "UID"],
                sop_class::ANALYSED.iter().map(|(uid, name)| vec![(*name).into(), (*uid).into()]),
            ),
        ),
        ("statuses", statuses()),
        ("produced", produced()),
        ("instances_max", commitment::INSTANCES_MAX.to_string()),
        ("data_set_mb_max", (commitment::DATA_SET_BYTES_MAX >> 20).to_string()),
        ("failures", failures()),
        ("parameters", parameters(&config)),
    ];
    parts.into_iter().fold(include_str!("conformance.md").to_owned(), |text, (name, part)| {
        text.replace(&format!("{{{{{name}}}}}"), &part)
    })
}

/// A Markdown table.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let rule = format!("|{}\n", "---|".repeat(head.len()));
    line(&head) + &rule + &rows.into_iter().map(|row| line(&row)).collect::<String>()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn services() -> String {
    let storage = format!("{}x", sop_class::STORAGE_PREFIX);
    table(
        &["service", "SOP class UID", "SCU", "SCP", "messages"],
        [
            row(["Verification", sop_class::VERIFICATION, "yes", "yes", "C-ECHO"]),
            row(["Storage", &storage, "results, any file by a technician", "yes", "C-STORE"]),
            row([
                "Storage Commitment Push Model",
                sop_class::STORAGE_COMMITMENT,
                "yes",
                "yes",
                "N-ACTION, N-EVENT-REPORT",
            ]),
        ],
    )
}

fn associations(config: &Config) -> String {
    let pdu = format!("{} bytes", config.pdu_bytes_max);
    let at_once = config.associations_max.to_string();
    table(
        &["item", "value"],
        [
            row(["Application Context Name", APPLICATION_CONTEXT]),
            row(["Implementation Class UID", part10::IMPLEMENTATION_CLASS_UID]),
            row(["Implementation Version Name", part10::IMPLEMENTATION_VERSION]),
            row(["longest PDU that is received (default)", &pdu]),
            row(["longest PDU that is sent", &format!("{} bytes, or what the other node takes", peer::PDU_MAX)]),
            row(["associations at the same time (default)", &at_once]),
            row(["presentation contexts of an association", &CONTEXTS_MAX.to_string()]),
            row(["operations at the same time over an association", "1"]),
        ],
    )
}

fn transfer_syntaxes() -> String {
    let rows = syntax::ACCEPTED.iter().map(|uid| {
        let name = TransferSyntaxRegistry.get(uid).map_or("?", |ts| ts.name());
        let plain = if syntax::PLAIN.contains(uid) { "yes" } else { "no" };
        row([name, uid, "yes", plain])
    });
    table(&["transfer syntax", "UID", "storage", "verification, commitment"], rows)
}

fn statuses() -> String {
    let rows = [
        (status::SUCCESS, "kept"),
        (status::OUT_OF_RESOURCES, "no room on the disk, or too much is being received at once: send again later"),
        (status::PROCESSING_FAILURE, "a fault of the box"),
        (status::DATA_SET_DOES_NOT_MATCH, "another object than the command names, or a UID is missing or none"),
        (status::CANNOT_UNDERSTAND, "cut short, damaged, too deep, too many elements, or an implausible size"),
        (status::UNRECOGNIZED_OPERATION, "an operation that is not offered"),
    ];
    table(&["status of C-STORE", "meaning"], rows.map(|(status, meaning)| row([&format!("0x{status:04X}"), meaning])))
}

fn produced() -> String {
    let rows = RESULT_CLASSES.iter().map(|(kind, uid, name)| row([kind.name(), name, uid]));
    table(&["kind, as in `objects`", "SOP class", "UID"], rows)
}

fn failures() -> String {
    let reasons = [status::NO_SUCH_INSTANCE, status::CLASS_INSTANCE_CONFLICT, status::PROCESSING_FAILURE];
    let rows = reasons.map(|reason| row([&format!("0x{reason:04X}"), commitment::failure_meaning(reason)]));
    table(&["Failure Reason", "meaning"], rows)
}

fn parameters(config: &Config) -> String {
    let rows = [
        ("ae_title", config.ae_title.to_string(), "our title"),
        ("listen", config.listen.to_string(), "address and port without TLS"),
        ("durability", "object".into(), "what a C-STORE success promises (4.2.4)"),
        ("associations_max", config.associations_max.to_string(), "associations at the same time"),
        ("pdu_bytes_max", config.pdu_bytes_max.to_string(), "longest PDU, bytes (4096 to 1048576)"),
        ("object_mb_max", config.object_mb_max.to_string(), "largest object, MiB"),
        ("memory_mb_max", config.memory_mb_max.to_string(), "memory of all objects that are being received, MiB"),
        (
            "free_mb_min",
            config.free_mb_min.to_string(),
            "below this room on the disk objects are answered with 0xA700, MiB",
        ),
        (
            "establish_s",
            config.establish_s.to_string(),
            "time from the connection to the A-ASSOCIATE-RQ, TLS included, s",
        ),
        ("idle_s", config.idle_s.to_string(), "silence after which an association is aborted, s"),
        ("quiet_s", config.quiet_s.to_string(), "a series is complete after this quiet time, s"),
        ("incomplete_s", config.incomplete_s.to_string(), "a series with a gap is taken as it is after this time, s"),
    ];
    let fixed = [
        (
            "slowest message",
            format!("{} bytes/s", link::RATE_MIN),
            "after 10 s an association below this rate is aborted",
        ),
        ("answer of another node", format!("{} s", peer::ANSWER.as_secs()), "then the association is aborted"),
        ("connecting to another node", format!("{} s", peer::CONNECT.as_secs()), "TCP, then as long for TLS"),
        ("nested sequences", walker::NESTING_MAX.to_string(), "deeper objects are refused"),
        ("elements of an object", walker::ELEMENTS_MAX.to_string(), "larger objects are refused"),
    ];
    let rows = rows.iter().map(|(key, value, what)| row([&format!("`{key}`"), value, what]));
    let fixed = fixed.iter().map(|(key, value, what)| row([&format!("{key} (fixed)"), value, what]));
    table(&["parameter", "default", "meaning"], rows.chain(fixed))
}
