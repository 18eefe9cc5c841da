using Tutti.Cpu;
using Tutti.Machine;

namespace Tutti.Cli;

/// <summary>The engines that <c>--engine</c> can name.</summary>
internal static class Engines
{
    internal const string Auto = "auto";

    internal static IReadOnlyList<string> Names { get; } = [Auto, .. MachineEngines.All.Select(e => e.Name)];

    /// <exception cref="UserException">There is none of that name.</exception>
    internal static IEngine Find(string name) => name == Auto
        ? MachineEngines.Software
        : MachineEngines.All.FirstOrDefault(e => e.Name == name)
            ?? throw new UserException($"there is no engine '{name}'; engines: {string.Join(", ", Names)}");
}
