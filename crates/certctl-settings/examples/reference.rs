//! Prints the reference page of all settings: `cargo run -p certctl-settings --example reference`.

fn main() {
    print!("{}", certctl_settings::reference_markdown());
}
