# What fish completes for egec. In ~/.config/fish/config.fish: egec completion fish | source
# Nothing of what was typed is expanded, and nothing that egec answers is executed.
function __egec_candidates
    set -l words (commandline -opc)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -e words[1]
    # A word whose quotation mark is still open is left to fish to compare.
    set -l begun (string unescape -- (commandline -ct))
    test (count $begun) -eq 1; or set begun ''
    set -l lines ($program completion fish -- $words $begun 2>/dev/null </dev/null)
    if test "$lines[1]" = files
        __fish_complete_path (commandline -ct)
    else if test (count $lines) -gt 1
        printf '%s\n' $lines[2..-1]
    end
end
complete -c egec -f -a '(__egec_candidates)'
