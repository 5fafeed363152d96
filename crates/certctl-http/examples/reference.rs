//! Prints the reference page of the API: `cargo run -p certctl-http --example reference`.

fn main() {
    print!("{}", certctl_http::api_reference());
}
