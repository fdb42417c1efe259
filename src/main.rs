//! The `tripline` program: reads its arguments and does what they say.

fn main() -> std::process::ExitCode {
    // First of all: a lane starts nothing that this process would, no logger and no thread.
    tripline::sandbox::become_lane_if_asked();
    tripline::cli::main()
}
