namespace Tutti.Architecture.Tests;

/// <summary>Pointers, native calls and host services stay in the projects that need them.</summary>
public class HostReachTests
{
    public static TheoryData<string> ProjectsFreeOfHost => [.. House.FreeOfHost];

    public static TheoryData<string> ProjectsWithoutNativeCalls =>
        [.. House.Layers.Select(layer => layer.Project).Except(House.NativeCalls)];

    [Fact]
    public void Only_the_projects_on_the_list_allow_unsafe_code()
    {
        IEnumerable<string> allowing = House.ProjectsIn("src")
            .Where(project => File.ReadAllText(project.Path).Contains("AllowUnsafeBlocks", StringComparison.Ordinal))
            .Select(project => project.Name);
        Assert.Equal(House.Unsafe.Order(), allowing);
    }

    [Theory]
    [MemberData(nameof(ProjectsWithoutNativeCalls))]
    public void Only_the_host_project_calls_native_libraries(string project)
    {
        using AssemblyReader assembly = new(project);
        House.AssertNone(assembly.NativeMethods);
    }

    [Fact]
    public void The_reader_sees_the_native_calls_of_the_host_project()
    {
        using AssemblyReader assembly = new("Tutti.Host");
        Assert.Contains("mmap", assembly.NativeMethods);
    }

    [Theory]
    [MemberData(nameof(ProjectsFreeOfHost))]
    public void Parts_for_bare_metal_use_no_host_service(string project)
    {
        using AssemblyReader assembly = new(project);
        House.AssertNone(assembly.UsedTypes.Concat(assembly.UsedMembers).Intersect(House.HostApis));
    }

    [Fact]
    public void The_reader_sees_the_host_services_that_the_host_project_uses()
    {
        using AssemblyReader assembly = new("Tutti.Host");
        Assert.Contains("System.IO.File", assembly.UsedTypes.Intersect(House.HostApis));
    }
}
