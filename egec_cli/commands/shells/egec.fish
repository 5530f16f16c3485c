# Completion of egec in fish. In ~/.config/fish/config.fish: egec completion fish | source
# Typed text is not expanded, and answers of egec are not executed.
function __egec_candidates
    set -l words (commandline -opc)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    set -e words[1]
    # If a quotation mark is still open, fish compares the word.
    set -l word (string unescape -- (commandline -ct))
    test (count $word) -eq 1; or set word ''
    set -l lines ($program completion fish -- $words $word 2>/dev/null </dev/null)
    if test "$lines[1]" = files
        __fish_complete_path (commandline -ct)
    else if test (count $lines) -gt 1
        printf '%s\n' $lines[2..-1]
    end
end
complete -c egec -f -a '(__egec_candidates)'
