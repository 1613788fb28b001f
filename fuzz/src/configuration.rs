//! The configuration files of a pipeline; an input of the target `json` begins with the position of
//! the one that it stands for.

/// Paths inside of a pipeline folder.
pub const FILES: [&str; 6] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "vae_decoder/config.json",
    "text_encoder/config.json",
    "tokenizer/tokenizer_config.json",
];
