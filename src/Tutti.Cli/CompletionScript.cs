namespace Tutti.Cli;

/// <summary>Shell scripts that ask <c>tutti</c> itself, through its suggest directive, what can follow.</summary>
internal static class CompletionScript
{
    internal static IReadOnlyList<string> Shells { get; } = ["bash", "zsh", "fish"];

    private const string Bash =
        """
        # bash completion for tutti; load it with:  source <(tutti completion bash)
        _tutti() {
            local line=${COMP_LINE#"${COMP_WORDS[0]}"} word=${COMP_WORDS[COMP_CWORD]}
            line=${line# }
            local point=$((COMP_POINT - ${#COMP_LINE} + ${#line}))
            local IFS=$'\n'
            COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" "[suggest:$point]" "$line" 2>/dev/null)" -- "$word"))
        }
        complete -o default -F _tutti tutti ./tutti
        """;

    private const string Zsh =
        """
        #compdef tutti
        # zsh completion for tutti; load it with:  source <(tutti completion zsh)
        _tutti() {
            local line="${words[2,-1]}" point
            local -a answers
            point=${#${(j: :)words[2,CURRENT]}}
            answers=("${(@f)$("${words[1]}" "[suggest:$point]" "$line" 2>/dev/null)}")
            if [[ -n "${answers[1]}" ]]; then compadd -a answers; else _files; fi
        }
        compdef _tutti tutti
        """;

    private const string Fish =
        """
        # fish completion for tutti; load it with:  tutti completion fish | source
        function __tutti_complete
            set -l words (commandline -opc) (commandline -ct)
            set -l line (string join ' ' -- $words[2..-1])
            $words[1] "[suggest:"(string length -- "$line")"]" "$line" 2>/dev/null
        end
        complete -c tutti -a '(__tutti_complete)'
        """;

    /// <exception cref="UserException">No script for that shell.</exception>
    internal static string For(string shell) => shell switch
    {
        "bash" => Bash,
        "zsh" => Zsh,
        "fish" => Fish,
        _ => throw new UserException($"there is no completion for '{shell}'; shells: {string.Join(", ", Shells)}"),
    };
}
